"""moetrace.open: what comes out of a collector's trace is what the producer was given.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import json
import pathlib
import unittest

import moetrace
import numpy
from producer_case import EXPERTS, LAYERS, TOP_K, open_producer
from reading_case import Case, harness


class Collected(Case):
    """Traces of a producer and a collector."""

    def producer(self, **options):
        return open_producer(self, **options)

    def run_pass(self, producer, spans, layers=range(LAYERS), weights=True):
        """A pass of (request, position, rows); what was given: {(request number, position, layer):
        (ids, weights)}."""
        entries, rows, given = [], 0, {}
        for request, position, count in spans:
            entries.append(moetrace.Span(request, position, rows, count))
            rows += count
        producer.step(rows, entries)
        for layer in layers:
            ids = numpy.stack([self.random.permutation(EXPERTS)[:TOP_K] for _ in range(rows)])
            gates = self.random.random((rows, TOP_K)).astype("float32")
            producer.record(layer, ids, gates if weights else None)
            for entry in entries:
                for n in range(entry.rows):
                    row = entry.first_row + n
                    given[entry.request.number, entry.first_position + n, layer] = (
                        ids[row],
                        gates[row] if weights else numpy.full(TOP_K, numpy.nan, "float32"),
                    )
        return given

    def trace(self):
        """The one trace that was collected, opened, when it has ended."""
        self.wait_drained()
        (path,) = self.trace_files()
        return self.open(path)

    def assert_routing(self, trace, number, given):
        """`trace.request(number)` has what was given, and nothing else."""
        routing = trace.request(number)
        own = {
            (position, layer): value
            for (request, position, layer), value in given.items()
            if request == number
        }
        ids = numpy.full(routing.ids.shape, -1, "int32")
        weights = numpy.full(routing.ids.shape, numpy.nan, "float32")
        for place, (i, w) in own.items():
            ids[place], weights[place] = i, w
        numpy.testing.assert_array_equal(routing.ids, ids)
        numpy.testing.assert_array_equal(routing.weights, weights)
        self.assertEqual(
            {tuple(place) for place in numpy.argwhere(routing.recorded).tolist()}, set(own)
        )
        self.assertEqual((routing.ids.dtype, routing.weights.dtype), ("int32", "float32"))
        self.assertEqual(
            routing.ids.shape,
            (1 + max(position for position, _ in own), trace.num_layers, trace.top_k),
        )
        return routing

    def test_everything_given_comes_back(self):
        harness.Collector(self, "--output-dir", self.traces)
        with self.producer(model_id="test/model") as producer:
            a, b = producer.request("a", prompt_tokens=5, cached_tokens=2), producer.request("b")
            given = self.run_pass(
                producer, [(a, 2, 3), (b, 0, 6)]
            )  # a begins after what its cache had
            given.update(self.run_pass(producer, [(b, 6, 1), (a, 5, 1)], weights=False))
            a.end(2, "length")
            again = producer.request("a", prompt_tokens=1)  # another one of that name
            given.update(
                self.run_pass(producer, [(again, 0, 1), (b, 4, 3)])
            )  # b was preempted: 4 to 6 come again
        trace = self.trace()
        self.assertEqual(trace.meta["model_id"], "test/model")
        self.assertEqual(
            (trace.top_k, trace.num_experts, trace.num_layers), (TOP_K, EXPERTS, LAYERS)
        )
        self.assertEqual(
            [tuple(request) for request in trace.requests()],
            [
                ("a", a.number, 5, 2, 2, "length", 4 * LAYERS),
                ("b", b.number, None, 0, None, None, 10 * LAYERS),
                ("a", again.number, 1, 0, None, None, LAYERS),
            ],
        )
        for request in (a, b, again):
            routing = self.assert_routing(trace, request.number, given)
        self.assertEqual(trace.request(a.number).positions.tolist(), [2, 3, 4, 5])
        self.assertEqual(
            repr(trace.request(a.number)),
            f"<moetrace.Routing of 'a', request {a.number}: 12 rows of top-4, positions "
            "2-5, layers 0-2; [6, 3, 4]>",
        )
        (batch,) = trace.batches()
        self.assertEqual(
            repr(batch),
            f"<moetrace.Batch: 45 rows of top-4, requests {a.number}-{again.number}, "
            "steps 0-2, layers 0-2, seq 0-44>",
        )
        numpy.testing.assert_array_equal(trace.request("b").ids, trace.request(b.number).ids)
        self.assertEqual(routing.request, trace.requests()[2])
        with self.assertRaisesRegex(
            moetrace.ReadError,
            f"2 requests are called 'a'; give the number of one: {a.number}, {again.number}$",
        ):
            trace.request("a")
        with self.assertRaisesRegex(moetrace.ReadError, "no request 'c'; requests"):
            trace.request("c")
        self.assertEqual((trace.end["status"], trace.end["delivered"]), ("closed", 15 * LAYERS))
        counts = numpy.zeros((LAYERS, EXPERTS), "int64")
        for batch in trace.batches():
            numpy.add.at(counts, (batch.layer[:, None], batch.topk_ids), 1)
        numpy.testing.assert_array_equal(trace.experts(), counts)
        self.assertEqual(counts.sum(), 15 * LAYERS * TOP_K)

    def test_columns_are_the_lines(self):
        harness.Collector(self, "--output-dir", self.traces)
        self.assertEqual(harness.Replay(self, self.write_log(3, 5000)).wait(), 0)
        trace = self.trace()
        lines = [json.loads(line) for line in pathlib.Path(trace.path).read_bytes().splitlines()]
        routes = [line for line in lines if line["type"] == "route"]
        for rows in (1, 7, 4096, 1_000_000):
            batches = list(trace.batches(rows))
            self.assertTrue(all(len(batch) == rows for batch in batches[:-1]))
            for name in ("req_id", "request", "step", "token_idx", "layer", "seq", "topk_ids"):
                column = numpy.concatenate([getattr(batch, name) for batch in batches])
                self.assertEqual(column.tolist(), [line[name] for line in routes], name)
            weights = numpy.concatenate([batch.topk_weights for batch in batches])
            numpy.testing.assert_array_equal(
                weights, numpy.array([line["topk_weights"] for line in routes], "float32")
            )
        self.assertEqual(len(trace.read()), len(routes))

    def test_selected_layers_loss_and_torn_rows_are_gaps(self):
        collector = harness.Collector(self, "--output-dir", self.traces)
        with self.producer(layers=[0, 2], ring_mb=1 / 128) as producer:
            request = producer.request("r")
            given = self.run_pass(producer, [(request, 0, 2)])
            harness.wait_until(
                lambda: self.trace_files() and harness.routes_in(self.trace_files()[0]) == 4, "rows"
            )
            collector.stop()  # without a collector the ring runs full
            for position in range(2, 300):
                given.update(self.run_pass(producer, [(request, position, 1)]))
            dropped = producer.totals.dropped
            harness.Collector(self, "--output-dir", self.traces)
            self.wait_emptied()  # from here on there is room
            producer.step(1, [(request, 300, 0, 1)])
            given.update(
                self.run_pass(producer, [(request, 301, 1)])
            )  # the pass before has left nothing: torn
        trace = self.trace()
        self.assertGreater(dropped, 0)
        self.assertEqual((trace.end["dropped"], trace.end["torn"]), (dropped, 2))
        self.assertEqual(sum(loss.dropped for loss in trace.losses()), dropped)
        self.assertEqual({loss.cause for loss in trace.losses()}, {"ring_full"})
        self.assertEqual([(torn.first_seq, torn.count) for torn in trace.torn()], [(None, 2)])
        steps = trace.steps()
        self.assertEqual(
            (steps.step.tolist(), (steps.rows * steps.layers).sum()),
            (list(range(301)), trace.end["attempted"]),
        )
        self.assertTrue((numpy.diff(steps.time_ns) >= 0).all())
        self.assertEqual(trace.cost, tuple(trace.end["cost"].values()))
        self.assertGreater(trace.cost.announce_ns, 0)
        routing = trace.request("r")
        self.assertEqual(routing.layers.tolist(), [0, 2])
        self.assertEqual(int(routing.recorded.sum()), trace.end["delivered"])
        self.assertFalse(routing.recorded[300].any())
        self.assertTrue(
            (routing.ids[~routing.recorded] == -1).all()
            and numpy.isnan(routing.weights[~routing.recorded]).all()
        )
        for position, layer in numpy.argwhere(routing.recorded).tolist():
            numpy.testing.assert_array_equal(
                routing.ids[position, layer], given[request.number, position, layer][0]
            )

    def test_rows_at_positions_that_are_not_known(self):
        harness.Collector(self, "--output-dir", self.traces)
        producer = self.producer(num_layers=1)
        known, unknown = (
            producer.request("k", prompt_tokens=2),
            producer.request("u", prompt_tokens=2),
        )
        producer.step(4, [(known, 0, 0, 2), (unknown, None, 2, 2)])
        producer.record(0, numpy.arange(4 * TOP_K).reshape(4, TOP_K))
        producer.close()
        trace = self.trace()
        batch = trace.read()
        self.assertEqual(
            (batch.request.tolist(), batch.token_idx.tolist()), ([0, 0, 1, 1], [0, 1, -1, -1])
        )
        self.assertEqual(trace.request("k").ids.shape, (2, 1, TOP_K))
        with self.assertRaisesRegex(
            moetrace.ReadError,
            "request 'u' has 2 rows, and it is not known at which positions; batches",
        ):
            trace.request("u")

    def test_a_killed_collector_leaves_a_trace_without_a_seam(self):
        collector = harness.Collector(self, "--output-dir", self.traces)
        with self.producer() as producer:
            request = producer.request("r")
            given = {}
            for position in range(40):
                given.update(self.run_pass(producer, [(request, position, 1)]))
                if position % 10 == 9:
                    collector.kill()
                    collector = harness.Collector(self, "--output-dir", self.traces)
        self.assert_routing(self.trace(), request.number, given)

    def test_a_file_that_is_still_written(self):
        harness.Collector(self, "--output-dir", self.traces)
        with self.producer() as producer:
            a = producer.request("a")
            given = self.run_pass(producer, [(a, 0, 2)])
            [path] = harness.wait_until(
                lambda: [path for path in self.trace_files() if path.stat().st_size],
                "no trace file",
            )
            trace = self.open(path)
            harness.wait_until(lambda: len(trace.read()) == len(given), "rows")
            self.assertIsNone(trace.end)
            self.assertIsNone(trace.requests()[0].status)
            given.update(self.run_pass(producer, [(a, 2, 1)]))
            harness.wait_until(lambda: trace.requests()[0].rows == len(given), "more rows")
            self.assert_routing(trace, a.number, given)
            a.end(1)
        self.wait_drained()
        self.assertEqual((trace.requests()[0].status, trace.end["status"]), ("stop", "closed"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
