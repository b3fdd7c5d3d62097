"""What the vLLM adapter announces for vLLM's schedules, with a real collector and without vLLM.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on
PYTHONPATH.
"""

import gc
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import types
import unittest

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402
from moetrace.recording import _library  # noqa: E402

PACKAGE = pathlib.Path(moetrace.__file__).resolve().parents[1]
Steps = _library.load_compiled("moetrace_steps").Steps


class Engine:
    """Schedules passes as vLLM does: new and finished requests, then a pass with tokens of each."""

    def __init__(self, producer, **modes):
        self.producer = producer
        self.steps = Steps(producer, **{"speculative": False, "asynchronous": True, **modes})
        self.positions = {}
        self.new_strings = False  # equal strings, never the same object: as from another process

    def run(self, tokens, new=(), gone=()):
        """tokens: {id: count}; new: (id, prompt tokens or None, cached tokens, max tokens) each."""
        begun = []
        for id, prompt, cached, most in new:
            begun.append(
                types.SimpleNamespace(
                    req_id=id,
                    prompt_token_ids=None if prompt is None else [0] * prompt,
                    num_computed_tokens=cached,
                    sampling_params=types.SimpleNamespace(max_tokens=most),
                )
            )
            self.positions[id] = cached
        self.steps.follow(
            types.SimpleNamespace(scheduled_new_reqs=begun, finished_req_ids=set(gone))
        )
        if not tokens:
            return
        starts = numpy.cumsum([0, *tokens.values()], dtype="i4")
        ids = [id.encode().decode() for id in tokens] if self.new_strings else list(tokens)
        self.steps.announce(ids, starts, numpy.array([self.positions[id] for id in tokens], "i4"))
        self.producer.record(0, numpy.zeros((starts[-1], 1), "i4"))
        for id, count in tokens.items():
            self.positions[id] += count


class StepsTest(harness.Case):
    def engine(self, **modes):
        harness.Collector(self, "--output-dir", self.traces)
        producer = moetrace.Producer(
            num_layers=1,
            num_experts=8,
            top_k=1,
            ring_mb=4,
            directory=str(self.rings),
            session=self.session,
            layers="all",
            sample_every=1,
        )
        self.addCleanup(producer.close)
        return Engine(producer, **modes)

    def lines(self, engine):
        engine.steps.close()
        engine.producer.close()
        self.wait_drained()
        (path,) = self.trace_files()
        self.check(path)
        return [json.loads(line) for line in path.read_text().splitlines()]

    @staticmethod
    def ends(lines):
        return [
            (r["req_id"], r["generated_tokens"], r["status"])
            for r in lines
            if r["type"] == "request_end"
        ]

    @staticmethod
    def positions(lines):
        rows = [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"]
        return {name: [position for other, position in rows if other == name] for name, _ in rows}

    def test_chunks_and_a_batch_in_another_order(self):
        engine = self.engine()
        engine.run(
            {"a-00000001": 3, "b-00000002": 5},
            new=[("a-00000001", 7, 0, 3), ("b-00000002", 6, 1, 16)],
        )
        engine.run({"b-00000002": 1, "a-00000001": 4})
        engine.run({"a-00000001": 1, "b-00000002": 1})
        engine.run({"a-00000001": 1, "b-00000002": 1})
        engine.run({"b-00000002": 1}, gone=["a-00000001"])
        lines = self.lines(engine)
        self.assertEqual(
            [
                (r["req_id"], r["prompt_tokens"], r["cached_tokens"])
                for r in lines
                if r["type"] == "request"
            ],
            [("a", 7, 0), ("b", 6, 1)],
        )
        self.assertEqual(self.positions(lines), {"a": list(range(9)), "b": list(range(1, 10))})
        # How many tokens of b were kept is unknown: the next pass may already have been in flight.
        self.assertEqual(self.ends(lines), [("a", 3, "length"), ("b", None, "finished")])

    def test_ends_count_what_was_before(self):
        """While others go on, in other places of the batch."""
        engine = self.engine(asynchronous=False)
        count, rng = 300, random.Random(3)
        lengths = {f"r{n}": rng.randrange(1, 40) for n in range(count)}
        live, expected = list(lengths), {}
        new, tokens, gone, age = [(id, 2, 0, 30) for id in live], dict.fromkeys(live, 2), [], 0
        while live:
            engine.new_strings = age % 3 == 1
            engine.run(tokens, new=new, gone=gone)
            self.assertEqual(engine.steps.live, len(live))
            new, age = [], age + 1
            gone = [id for id in live if lengths[id] == age]
            expected.update((id, (age, "length" if age >= 30 else "finished")) for id in gone)
            live = [id for id in live if lengths[id] > age]
            rng.shuffle(live)
            tokens = dict.fromkeys(live, 1)
        engine.run({}, gone=gone)  # no request is left, no pass follows
        self.assertEqual(engine.steps.live, 0)
        self.assertEqual(
            {id: (generated, status) for id, generated, status in self.ends(self.lines(engine))},
            expected,
        )

    def test_columns_of_every_kind(self):
        """One array for all passes, larger than the batch; a new one each time; other types,
        strides and alignments."""
        engine = self.engine()
        self.assertTrue(engine.steps.reads_in_place)
        engine.steps.announce([], numpy.zeros(1, "i4"), numpy.zeros(0, "i4"))
        engine.run({"k": 2}, new=[("k", 2, 0, 99)])
        starts, firsts = numpy.zeros(9, "i4"), numpy.zeros(8, "i4")
        columns = [(starts, firsts)] * 4
        columns += [
            (numpy.array([0, 1], "i4"), numpy.zeros(1, kind)) for kind in ("i4", "i8", "u2", ">i4")
        ]
        columns += [
            (numpy.zeros(4, kind)[::2], numpy.zeros(3, kind)[::-1]) for kind in ("i4", "i8")
        ]
        strided = numpy.zeros(4, "i4")[::2], numpy.zeros(4, "i4")[::2]
        bytes = numpy.zeros(13, "u1")
        odd = bytes[1:9].view("i4"), bytes[9:].view("i4")
        columns += [strided] * 3 + [(starts, firsts)] * 2 + [odd] * 2
        for position, (rows, positions) in enumerate(columns, 2):
            rows[1], positions[0] = 1, position
            engine.steps.announce(["k"], rows, positions)
            engine.producer.record(0, numpy.zeros((1, 1), "i4"))
        self.assertEqual(self.positions(self.lines(engine)), {"k": list(range(len(columns) + 2))})

    def test_what_is_wrong_is_said(self):
        engine = self.engine()
        engine.run({"k": 1}, new=[("k", 1, 0, 9)])
        two, one = numpy.array([0, 1], "i4"), numpy.array([1], "i4")
        schedule, request = types.SimpleNamespace, types.SimpleNamespace
        for error, call, arguments in (
            (KeyError, "announce", (["unknown"], two, one)),
            (TypeError, "announce", ([7], two, one)),
            (TypeError, "announce", (("k",), two, one)),
            (TypeError, "announce", (["k"], two)),
            (ValueError, "announce", (["k"], two[:1], one)),
            (ValueError, "announce", (["k"], two, one[:0])),
            (ValueError, "announce", (["k", "k"], two, one)),
            (AttributeError, "announce", (["k"], two, 7)),
            (AttributeError, "announce", (["k"], b"12345678", one)),
            (AttributeError, "follow", (None,)),
            (TypeError, "follow", (schedule(scheduled_new_reqs=None, finished_req_ids=()),)),
            (TypeError, "follow", (schedule(scheduled_new_reqs=(), finished_req_ids={7}),)),
            (
                UnicodeEncodeError,
                "follow",
                (schedule(scheduled_new_reqs=(), finished_req_ids={"\udc80"}),),
            ),
            (AttributeError, "follow", (schedule(scheduled_new_reqs=[7], finished_req_ids=()),)),
            (
                AttributeError,
                "follow",
                (
                    schedule(
                        finished_req_ids=(),
                        scheduled_new_reqs=[
                            request(
                                prompt_token_ids=None, num_computed_tokens=0, sampling_params=None
                            )
                        ],
                    ),
                ),
            ),
            *(
                (
                    TypeError,
                    "follow",
                    (
                        schedule(
                            finished_req_ids=(),
                            scheduled_new_reqs=[
                                request(
                                    **{
                                        "req_id": "n",
                                        "prompt_token_ids": [],
                                        "num_computed_tokens": 0,
                                        "sampling_params": types.SimpleNamespace(max_tokens=4),
                                        **wrong,
                                    }
                                )
                            ],
                        ),
                    ),
                )
                for wrong in (
                    {"req_id": 7},
                    {"prompt_token_ids": 7},
                    {"num_computed_tokens": "x"},
                    {"sampling_params": types.SimpleNamespace(max_tokens="x")},
                )
            ),
        ):
            with self.subTest(call=call, arguments=arguments), self.assertRaises(error):
                getattr(engine.steps, call)(*arguments)
        engine.run({"k": 1, "l": 1}, new=[("l", 1, 0, 9)])
        with self.assertRaises(KeyError):  # in the middle of a batch; the next one is whole again
            engine.steps.announce(
                ["l", "unknown"], numpy.arange(3, dtype="i4"), numpy.zeros(2, "i4")
            )
        engine.run({"l": 1, "k": 1})
        self.assertEqual(self.positions(self.lines(engine)), {"k": [0, 1, 2], "l": [0, 1]})
        for wrong in ((), (engine.producer,), (engine.producer, True), (None, True, True)):
            with self.assertRaises((TypeError, AttributeError)):
                Steps(*wrong)

    def test_where_the_module_is_looked_for(self):
        """Beside the library, whichever way it is named; else one line says so."""
        beside = pathlib.Path(os.environ["MOETRACE_LIBRARY"])
        alone = shutil.copytree(
            beside.parent,
            self.rings / "alone",
            symlinks=True,
            ignore=shutil.ignore_patterns("moetrace_steps*", "emulated"),
        )
        renamed = shutil.copy(beside, self.rings / "other.so")

        def load(library, **environment):
            code = (
                "from moetrace.recording import _library\nfrom moetrace import errors\n"
                "try: _library.load_compiled('moetrace_steps')\n"
                "except errors.TracingError as error: print(error)"
            )
            environment = {
                **os.environ,
                "PYTHONPATH": str(PACKAGE),
                "MOETRACE_LIBRARY": str(library),
                **environment,
            }
            return subprocess.run(
                [sys.executable, "-B", "-c", code],
                text=True,
                check=True,
                capture_output=True,
                cwd=beside.parent,
                env=environment,
            ).stdout

        for library, environment in (
            (beside, {}),
            (f"./{beside.name}", {}),
            ("libmoetrace.so.0", {"LD_LIBRARY_PATH": str(beside.parent)}),
        ):
            self.assertEqual(load(library, **environment), "")
        for library, why in (
            (alone / beside.name, "cannot open shared object file"),
            (renamed, "is not called libmoetrace.so"),
        ):
            self.assertRegex(
                load(library),
                f"^moetrace_steps.abi3.so: .*{why}.*; install the package from its wheel, .*\n$",
            )

    def test_nothing_is_kept_that_has_gone(self):
        engine = self.engine()
        ids = [f"r{n}-0000000{n}" for n in range(8)]
        columns = numpy.arange(9, dtype="i4"), numpy.zeros(8, "i4")
        counts = [sys.getrefcount(object) for object in (*ids, *columns)]
        for _ in range(3):
            engine.run(dict.fromkeys(ids, 1), new=[(id, 1, 0, 9) for id in ids])
            engine.steps.announce(list(ids), *columns)
            engine.run({}, gone=ids[1:])
            engine.steps.announce(
                ids[:1], *columns
            )  # passes of the others do not keep finished requests
            engine.positions.clear()
            self.assertEqual([sys.getrefcount(id) for id in ids[1:]], counts[1:8])
            engine.run({}, gone=ids[:1])
        engine.steps.close()
        engine.positions.clear()
        del engine.steps
        gc.collect()
        self.assertEqual([sys.getrefcount(object) for object in (*ids, *columns)], counts)

    def test_a_producer_that_has_been_closed(self):
        engine = self.engine()
        engine.run({"k": 1}, new=[("k", 1, 0, 9)])
        self.assertGreater(engine.producer.cost.announce_ns, 0)
        engine.producer.close()
        engine.run({"k": 1, "n": 1}, new=[("n", 1, 0, 9)])
        engine.run({"n": 1}, gone=["k"])
        engine.steps.close()
        lines = self.lines(engine)
        self.assertEqual(
            ([r["req_id"] for r in lines if r["type"] == "request"], self.ends(lines)), (["k"], [])
        )

    def test_names_that_come_again(self):
        engine = self.engine(asynchronous=False)
        engine.run({"x-0000000a": 2}, new=[("x-0000000a", 2, 0, 8)])
        engine.run(
            {"x-0000000b": 3}, new=[("x-0000000b", 3, 0, 8)], gone=["x-0000000a"]
        )  # at once: the same name
        engine.run(
            {"x-0000000c": 4, "x-0000000b": 1}, new=[("x-0000000c", 4, 0, 8)]
        )  # beside one of that name
        engine.run({"x-0000000b": 1}, gone=["x-0000000c"])
        engine.run(
            {"x-0000000b": 5}, new=[("x-0000000b", 5, 0, 8)], gone=["x-0000000b"]
        )  # the same id, in the same batch
        lines = self.lines(engine)
        self.assertEqual(
            [(r["req_id"], r["prompt_tokens"]) for r in lines if r["type"] == "request"],
            [("x", 2), ("x", 3), ("x-0000000c", 4), ("x", 5)],
        )
        self.assertEqual(
            sorted(self.ends(lines)),
            [
                ("x", 1, "finished"),
                ("x", 1, "finished"),
                ("x", 3, "finished"),
                ("x-0000000c", 1, "finished"),
            ],
        )
        rows = [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"]
        self.assertEqual(
            rows,
            [
                ("x", 0),
                ("x", 1),
                ("x", 0),
                ("x", 1),
                ("x", 2),
                *(("x-0000000c", n) for n in range(4)),
                ("x", 3),
                ("x", 4),
                *(("x", n) for n in range(5)),
            ],
        )

    def test_a_request_that_was_preempted_is_the_same_one(self):
        engine = self.engine(asynchronous=False)
        engine.run({"p": 4}, new=[("p", 4, 0, 9)])
        engine.run({"q": 2}, new=[("q", 2, 0, 9)])
        engine.positions["p"] = 0
        engine.run({"p": 4, "q": 1}, new=[("p", 4, 0, 9)])
        engine.run({"p": 1}, gone=["q"])
        lines = self.lines(engine)
        self.assertEqual([r["req_id"] for r in lines if r["type"] == "request"], ["p", "q"])
        self.assertEqual(self.positions(lines), {"p": [0, 1, 2, 3, 0, 1, 2, 3, 4], "q": [0, 1, 2]})
        self.assertEqual(sorted(self.ends(lines)), [("p", 2, "finished"), ("q", 2, "finished")])

    def test_a_request_that_is_cancelled_while_it_waits(self):
        """Its end, and the begin of a new one with its id, are in one schedule."""
        engine = self.engine(asynchronous=False)
        engine.run({"o": 2}, new=[("o", 2, 0, 9)])
        engine.run({"o": 1, "x": 3}, new=[("x", 3, 0, 9)], gone=["x"])
        engine.run({"o": 1, "x": 1}, gone=["y"])
        engine.run({"x": 1, "y": 2}, new=[("y", 2, 0, 9)], gone=["o"])
        engine.run({"y": 1, "x": 1})
        engine.run({}, gone=["x", "y"])
        lines = self.lines(engine)
        self.assertEqual(
            sorted(self.ends(lines)),
            [("o", 3, "finished"), ("x", 4, "finished"), ("y", 2, "finished")],
        )
        self.assertEqual(
            self.positions(lines), {"o": [0, 1, 2, 3], "x": [0, 1, 2, 3, 4, 5], "y": [0, 1, 2]}
        )

    def test_passes_that_are_not_announced(self):
        """As in an engine that only encodes: requests are still announced, and none pile up."""
        engine = self.engine(asynchronous=False)
        for n in range(20):
            engine.steps.follow(
                types.SimpleNamespace(
                    scheduled_new_reqs=[
                        types.SimpleNamespace(
                            req_id=f"e{n}",
                            prompt_token_ids=[0],
                            num_computed_tokens=0,
                            sampling_params=types.SimpleNamespace(max_tokens=1),
                        )
                    ],
                    finished_req_ids={f"e{n - 1}"} if n else set(),
                )
            )
            self.assertEqual(engine.steps.live, 1)
        lines = self.lines(engine)
        names = [f"e{n}" for n in range(20)]
        self.assertEqual([r["req_id"] for r in lines if r["type"] == "request"], names)
        self.assertEqual(self.ends(lines), [(name, None, "finished") for name in names])

    def test_new_requests_of_a_pass_that_was_not_announced(self):
        """A request that ended, and came again."""
        engine = self.engine(asynchronous=False)
        again = types.SimpleNamespace(
            req_id="again",
            prompt_token_ids=[0],
            num_computed_tokens=0,
            sampling_params=types.SimpleNamespace(max_tokens=1),
        )
        before = engine.producer.cost.announce_ns
        engine.steps.follow(
            types.SimpleNamespace(scheduled_new_reqs=[again], finished_req_ids=set())
        )
        self.assertGreater(engine.producer.cost.announce_ns, before)
        engine.steps.follow(
            types.SimpleNamespace(scheduled_new_reqs=[again], finished_req_ids={"again"})
        )
        engine.steps.announce(["again"], numpy.array([0, 1], "i4"), numpy.zeros(1, "i4"))
        engine.producer.record(0, numpy.zeros((1, 1), "i4"))
        lines = self.lines(engine)
        self.assertEqual(self.ends(lines), [("again", None, "finished"), ("again", 1, "length")])
        self.assertEqual([r["request"] for r in lines if r["type"] == "route"], [1])

    def test_what_can_not_be_counted(self):
        """A session whose client sends more; a request that generates nothing."""
        engine = self.engine(asynchronous=False)
        engine.run({"s": 4, "p": 2}, new=[("s", 4, 0, 9), ("p", 2, 0, None)])
        engine.run({"s": 8}, new=[("s", 12, 0, 9)], gone=["p"])
        engine.run({}, gone=["s"])
        self.assertEqual(
            sorted(self.ends(self.lines(engine))),
            [("p", None, "finished"), ("s", None, "finished")],
        )

    def test_positions_that_are_not_known(self):
        lines = self.of_two(speculative=True)
        self.assertEqual(
            [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"],
            [("s", None)] * 3 + [("t", None)] * 2,
        )

    def test_rows_that_the_gpu_assigns(self):
        """Rows that were assigned on the GPU have no request: it may be another's."""
        lines = self.of_two(speculative=True, asynchronous=False, rows_known=False)
        self.assertEqual(
            [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"],
            [(None, None)] * 5,
        )

    def of_two(self, **modes):
        engine = self.engine(**modes)
        self.assertFalse(engine.steps.positions_known)
        self.assertEqual(engine.steps.rows_known, modes.get("rows_known", True))
        engine.run({"s": 3, "t": 2}, new=[("s", None, 0, None), ("t", 2, 0, 4)])
        engine.run({}, gone=["s", "t"])
        lines = self.lines(engine)
        self.assertEqual(
            sorted(self.ends(lines)), [("s", None, "finished"), ("t", None, "finished")]
        )
        return lines


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
