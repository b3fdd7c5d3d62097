"""What the vLLM adapter announces, against a real collector, with schedules as vLLM's scheduler makes them. vLLM is not needed.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on PYTHONPATH.
"""
import json
import pathlib
import random
import sys
import types
import unittest
from unittest import mock

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)

import moetrace  # noqa: E402
from moetrace.vllm import _steps  # noqa: E402


class Engine:
    """Schedules passes, as vLLM does: who has come, who has gone, and then a pass with so many tokens of each."""

    def __init__(self, producer, **modes):
        self.producer = producer
        self.steps = _steps.Steps(producer, **{"speculative": False, "asynchronous": True, **modes})
        self.positions = {}

    def run(self, tokens, new=(), gone=()):
        """tokens: {id: count}; new: (id, prompt tokens or None, cached tokens, max tokens) of each."""
        begun = []
        for id, prompt, cached, most in new:
            begun.append(types.SimpleNamespace(req_id=id, prompt_token_ids=None if prompt is None else [0] * prompt,
                                               num_computed_tokens=cached, sampling_params=types.SimpleNamespace(max_tokens=most)))
            self.positions[id] = cached
        self.steps.follow(types.SimpleNamespace(scheduled_new_reqs=begun, finished_req_ids=set(gone),
                                                total_num_scheduled_tokens=sum(tokens.values())))
        if not tokens:
            return
        starts = numpy.cumsum([0, *tokens.values()], dtype="i4")
        self.steps.announce(list(tokens), starts, numpy.array([self.positions[id] for id in tokens], "i4"))
        self.producer.record(0, numpy.zeros((starts[-1], 1), "i4"))
        for id, count in tokens.items():
            self.positions[id] += count


class StepsTest(harness.Case):
    def engine(self, **modes):
        harness.Collector(self, "--output-dir", self.traces)
        producer = moetrace.Producer(num_layers=1, num_experts=8, top_k=1, ring_mb=4, directory=str(self.rings),
                                     session=self.session, layers="all", sample_every=1)
        self.addCleanup(producer.close)
        return Engine(producer, **modes)

    def lines(self, engine):
        engine.steps.close()
        engine.producer.close()
        self.wait_drained()
        path, = self.trace_files()
        self.check(path)
        return [json.loads(line) for line in path.read_text().splitlines()]

    @staticmethod
    def ends(lines):
        return [(r["req_id"], r["generated_tokens"], r["status"]) for r in lines if r["type"] == "request_end"]

    @staticmethod
    def positions(lines):
        rows = [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"]
        return {name: [position for other, position in rows if other == name] for name, _ in rows}

    def test_chunks_and_a_batch_in_another_order(self):
        engine = self.engine()
        engine.run({"a-00000001": 3, "b-00000002": 5}, new=[("a-00000001", 7, 0, 3), ("b-00000002", 6, 1, 16)])
        engine.run({"b-00000002": 1, "a-00000001": 4})
        engine.run({"a-00000001": 1, "b-00000002": 1})
        engine.run({"a-00000001": 1, "b-00000002": 1})
        engine.run({"b-00000002": 1}, gone=["a-00000001"])
        lines = self.lines(engine)
        self.assertEqual([(r["req_id"], r["prompt_tokens"], r["cached_tokens"]) for r in lines if r["type"] == "request"],
                         [("a", 7, 0), ("b", 6, 1)])
        self.assertEqual(self.positions(lines), {"a": list(range(9)), "b": list(range(1, 10))})
        # Of b nobody knows how many of its tokens were kept: the next pass may have been on its way.
        self.assertEqual(self.ends(lines), [("a", 3, "length"), ("b", None, "finished")])

    def test_ends_are_told_together_and_count_what_was_before(self):
        """While others go on; numbers that contain one another's bytes are told apart."""
        engine = self.engine(asynchronous=False)
        count, rng = 300, random.Random(3)
        lengths = {f"r{n}": rng.randrange(1, 40) for n in range(count)}
        live, expected = list(lengths), {}
        new, tokens, gone, age = [(id, 2, 0, 30) for id in live], dict.fromkeys(live, 2), [], 0
        while live:
            untold = len(engine.steps._live)
            # In every tenth pass, and the one behind it, it is time to tell; for an hour after that it is not.
            with mock.patch.object(_steps, "_TELL_NS", 0 if age % 10 in (0, 1) else 3600 * 10**9):
                engine.run(tokens, new=new, gone=gone)
            if age > 0:
                self.assertEqual(len(engine.steps._live), len(live) if age % 10 in (0, 1) else untold)
            new, age = [], age + 1
            gone = [id for id in live if lengths[id] == age]
            expected.update((id, (age, "length" if age >= 30 else "finished")) for id in gone)
            live = [id for id in live if lengths[id] > age]
            rng.shuffle(live)
            tokens = dict.fromkeys(live, 1)
        engine.run({}, gone=gone)  # nobody is left, no pass follows
        self.assertEqual(engine.steps._live, {})
        self.assertEqual({id: (generated, status) for id, generated, status in self.ends(self.lines(engine))}, expected)

    def test_names_that_come_again(self):
        engine = self.engine(asynchronous=False)
        engine.run({"x-0000000a": 2}, new=[("x-0000000a", 2, 0, 8)])
        engine.run({"x-0000000b": 3}, new=[("x-0000000b", 3, 0, 8)], gone=["x-0000000a"])  # at once: the same name
        engine.run({"x-0000000c": 4, "x-0000000b": 1}, new=[("x-0000000c", 4, 0, 8)])  # beside one of that name
        engine.run({"x-0000000b": 1}, gone=["x-0000000c"])
        engine.run({"x-0000000b": 5}, new=[("x-0000000b", 5, 0, 8)], gone=["x-0000000b"])  # the same id, in the same batch
        lines = self.lines(engine)
        self.assertEqual([(r["req_id"], r["prompt_tokens"]) for r in lines if r["type"] == "request"],
                         [("x", 2), ("x", 3), ("x-0000000c", 4), ("x", 5)])
        self.assertEqual(sorted(self.ends(lines)), sorted([("x", 1, "finished"), ("x", 3, "finished"), ("x-0000000c", 1, "finished"),
                                                           ("x", 1, "finished")]))
        rows = [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"]
        self.assertEqual(rows, [("x", 0), ("x", 1), ("x", 0), ("x", 1), ("x", 2), *(("x-0000000c", n) for n in range(4)), ("x", 3),
                                ("x", 4), *(("x", n) for n in range(5))])

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

    def test_a_request_that_went_before_it_came(self):
        """It waited, and was given up; who asks again has the same id."""
        engine = self.engine(asynchronous=False)
        engine.run({"o": 2}, new=[("o", 2, 0, 9)])
        engine.run({"o": 1, "x": 3}, new=[("x", 3, 0, 9)], gone=["x"])
        engine.run({"o": 1, "x": 1}, gone=["y"])
        engine.run({"x": 1, "y": 2}, new=[("y", 2, 0, 9)], gone=["o"])
        with mock.patch.object(_steps, "_TELL_NS", 0):
            engine.run({"y": 1, "x": 1})
        engine.run({}, gone=["x", "y"])
        lines = self.lines(engine)
        self.assertEqual(sorted(self.ends(lines)), [("o", 3, "finished"), ("x", 4, "finished"), ("y", 2, "finished")])
        self.assertEqual(self.positions(lines), {"o": [0, 1, 2, 3], "x": [0, 1, 2, 3, 4, 5], "y": [0, 1, 2]})

    def test_passes_that_are_not_announced(self):
        """As those of an engine that only encodes: what comes and goes is told all the same, and nothing piles up."""
        engine = self.engine(asynchronous=False)
        for n in range(20):
            engine.steps.follow(types.SimpleNamespace(
                scheduled_new_reqs=[types.SimpleNamespace(req_id=f"e{n}", prompt_token_ids=[0], num_computed_tokens=0,
                                                          sampling_params=types.SimpleNamespace(max_tokens=1))],
                finished_req_ids={f"e{n - 1}"} if n else set(), total_num_scheduled_tokens=1))
            self.assertLessEqual(len(engine.steps._come) + len(engine.steps._gone) + len(engine.steps._live), 4)
        lines = self.lines(engine)
        self.assertEqual([r["req_id"] for r in lines if r["type"] == "request"], [f"e{n}" for n in range(20)])
        self.assertEqual(self.ends(lines), [(f"e{n}", None, "finished") for n in range(20)])

    def test_what_can_not_be_counted(self):
        """A session whose client says more; a request that generates nothing."""
        engine = self.engine(asynchronous=False)
        engine.run({"s": 4, "p": 2}, new=[("s", 4, 0, 9), ("p", 2, 0, None)])
        engine.run({"s": 8}, new=[("s", 12, 0, 9)], gone=["p"])
        engine.run({}, gone=["s"])
        self.assertEqual(sorted(self.ends(self.lines(engine))), [("p", None, "finished"), ("s", None, "finished")])

    def test_positions_that_are_not_known(self):
        engine = self.engine(speculative=True)
        self.assertFalse(engine.steps.positions_known)
        engine.run({"s": 3}, new=[("s", None, 0, None)])
        engine.run({}, gone=["s"])
        lines = self.lines(engine)
        self.assertEqual([(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"], [(None, None)] * 3)
        self.assertEqual(self.ends(lines), [("s", None, "finished")])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
