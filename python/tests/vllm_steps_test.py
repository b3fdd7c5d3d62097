"""What the vLLM adapter announces for vLLM's schedules, with a real collector and without vLLM.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on
PYTHONPATH.
"""

import random
import sys
import unittest

import numpy
from vllm_steps_case import StepsCase, new_request, schedule


class StepsTest(StepsCase):
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
            gone = {f"e{n - 1}"} if n else ()
            engine.steps.follow(schedule([new_request(f"e{n}", 1, 0, 1)], gone))
            self.assertEqual(engine.steps.live, 1)
        lines = self.lines(engine)
        names = [f"e{n}" for n in range(20)]
        self.assertEqual([r["req_id"] for r in lines if r["type"] == "request"], names)
        self.assertEqual(self.ends(lines), [(name, None, "finished") for name in names])

    def test_new_requests_of_a_pass_that_was_not_announced(self):
        """A request that ended, and came again."""
        engine = self.engine(asynchronous=False)
        again = new_request("again", 1, 0, 1)
        before = engine.producer.cost.announce_ns
        engine.steps.follow(schedule([again]))
        self.assertGreater(engine.producer.cost.announce_ns, before)
        engine.steps.follow(schedule([again], ["again"]))
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
