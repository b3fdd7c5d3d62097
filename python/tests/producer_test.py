"""moetrace.Producer with a real collector: the trace has what was given, and nothing else.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on
PYTHONPATH.
"""

import os
import unittest

import moetrace
import numpy
from producer_case import EXPERTS, LAYERS, TOP_K, RecordingCase, harness


class ProducerTest(RecordingCase):
    def collect(self):
        return harness.Collector(self, "--output-dir", self.traces)

    @staticmethod
    def routes(lines):
        return {
            (r["req_id"], r["token_idx"], r["layer"]): (r["topk_ids"], r["topk_weights"])
            for r in lines
            if r["type"] == "route"
        }

    def test_rows_as_given(self):
        self.collect()
        given = {}
        with self.open(
            model_id="test/model",
            engine="a test",
            seed=5,
            router_score="sigmoid",
            router_scaling=2.5,
            router_biased=True,
            router_groups=4,
            router_topk_groups=2,
            notes=["one", "another\n one"],
        ) as producer:
            self.assertEqual(len(producer.trace_id), 36)
            a, b = producer.request("a", prompt_tokens=5, cached_tokens=2), producer.request("b")
            passes = [[("a", a, 2, 3), ("b", b, 0, 6)], [("b", b, 6, 1), ("a", a, 5, 1)]]
            for spans in passes:
                keys, rows, entries = [], 0, []
                for name, request, position, count in spans:
                    entries.append(moetrace.Span(request, position, rows, count))
                    keys += [(name, position + n) for n in range(count)]
                    rows += count
                self.assertTrue(producer.step(rows, entries))
                for layer in range(LAYERS):
                    ids, weights = self.routing(rows)
                    producer.record(layer, ids, weights)
                    for key, i, w in zip(keys, ids.tolist(), weights.tolist()):
                        given[(*key, layer)] = (i, w)
            a.end(2, "length")
            b.end()
            self.assertEqual(producer.totals, (2, len(given), len(given), 0))
            measured = producer.cost
            self.assertGreater(measured.announce_ns, 0)
            producer.add_cost(announce_ns=10**12, hook_ns=2 * 10**12)
            producer.add_cost()
            self.assertEqual(
                producer.cost, (measured.announce_ns + 10**12, measured.hook_ns + 2 * 10**12)
            )
            for negative in ({"announce_ns": -1}, {"hook_ns": -1}):
                with self.assertRaises(ValueError):
                    producer.add_cost(**negative)
        lines = self.lines_of_trace()
        self.assertEqual(lines[-1]["cost"]["announce_ns"], producer.cost.announce_ns)
        self.assertGreaterEqual(lines[-1]["cost"]["hook_ns"], producer.cost.hook_ns)
        self.assertEqual(
            {k: (i, [numpy.float32(x) for x in w]) for k, (i, w) in self.routes(lines).items()},
            given,
        )
        meta = lines[0]
        self.assertEqual(
            meta["router"],
            {
                "score": "sigmoid",
                "renormalized": False,
                "scaling": 2.5,
                "biased": True,
                "groups": 4,
                "topk_groups": 2,
            },
        )
        self.assertEqual(meta["notes"], ["one", "another one"])
        self.assertEqual(
            [
                meta[k]
                for k in (
                    "model_id",
                    "engine",
                    "seed",
                    "device",
                    "top_k",
                    "num_experts",
                    "num_layers",
                )
            ],
            ["test/model", "a test", 5, "cpu", TOP_K, EXPERTS, LAYERS],
        )
        self.assertEqual(
            [
                (r["req_id"], r["prompt_tokens"], r["cached_tokens"])
                for r in lines
                if r["type"] == "request"
            ],
            [("a", 5, 2), ("b", None, 0)],
        )
        self.assertEqual(
            [
                (r["req_id"], r["generated_tokens"], r["status"])
                for r in lines
                if r["type"] == "request_end"
            ],
            [("a", 2, "length"), ("b", None, "stop")],
        )

    def test_layers_that_differ(self):
        """Each layer takes its own top-k, and ids of its own experts; meta has what was given."""
        self.collect()
        given = {
            0: moetrace.LayerInfo(experts=20, zero_experts=0, top_k=2, table=True),
            2: moetrace.LayerInfo(
                experts=50,
                zero_experts=10,
                score="sigmoid",
                renormalized=False,
                scaling=2.5,
                biased=True,
                groups=5,
                topk_groups=2,
                table=False,
            ),
        }
        with self.open(layer_table=given, engine_id="e7") as producer:
            request = producer.request("r")
            producer.step(2, [(request, 0, 0, 2)])
            producer.record(0, numpy.array([[3, 19], [20, 0]]))
            producer.record(2, numpy.array([[0, 50, 59, 1], [4, 3, 2, 1]]))
            with self.assertRaisesRegex(
                ValueError, r"^record: ids has shape \(2, 4\); it must be "
            ):
                producer.record(0, numpy.zeros((2, 4), "int64"))
            self.assertEqual(producer.totals, (1, 4, 4, 0))
            request.end(1)
        meta, *lines = self.lines_of_trace()
        self.assertEqual(
            [line["topk_ids"] for line in lines if line["type"] == "route"],
            [[3, 19], [None, 0], [0, 50, 59, 1], [4, 3, 2, 1]],
        )
        self.assertEqual(meta["engine_id"], "e7")
        self.assertEqual(
            meta["layers"], [{"layer": layer, **info._asdict()} for layer, info in given.items()]
        )
        [trace] = self.trace_files()
        with moetrace.open(trace) as read:
            self.assertEqual(read.meta["layers"], meta["layers"])
            self.assertEqual(read.top_k, TOP_K)
            rows = read.read()
            self.assertEqual(rows.topk_ids.tolist()[0], [3, 19, -1, -1])
            self.assertTrue(numpy.isnan(rows.topk_weights[0]).all())
            self.assertEqual(read.request("r").ids[0, 0].tolist(), [3, 19, -1, -1])
            self.assertEqual(read.experts()[0].sum(), 3)

    def test_every_dtype_and_any_strides(self):
        self.collect()
        expected = []
        with self.open(num_layers=1) as producer:
            for id_type in ("int16", "int32", "int64", "uint32"):
                for weight_type in ("float32", "float16"):
                    ids, weights = self.routing(4, id_type, weight_type)
                    producer.step(2)
                    producer.record(0, ids[::2], numpy.asfortranarray(weights)[::2])
                    expected += list(
                        zip(ids[::2].tolist(), weights[::2].astype("float32").tolist())
                    )
            producer.step(1)
            producer.record(0, ids[:1])
            expected.append((ids[0].tolist(), [None] * TOP_K))
        got = [
            (
                r["topk_ids"],
                [w if w is None else float(numpy.float32(w)) for w in r["topk_weights"]],
            )
            for r in self.lines_of_trace()
            if r["type"] == "route"
        ]
        self.assertEqual(got, expected)

    def test_only_announced_rows(self):
        self.collect()
        with self.open() as producer:
            ids, weights = self.routing(4)
            producer.record(0, ids, weights)  # not announced
            producer.step(2)
            for layer in range(LAYERS):
                producer.record(layer, ids, weights)  # two rows of padding
            producer.step(3)
            producer.record(0, ids, weights)
            producer.abort()
            producer.record(1, ids, weights)
            self.assertEqual(producer.totals.recorded, 2 * LAYERS + 3)
        end = self.lines_of_trace()[-1]
        self.assertEqual((end["delivered"], end["torn"]), (2 * LAYERS + 3, 3 * (LAYERS - 1)))

    def test_selected_layers_and_sampling(self):
        with self.open(layers=[0, 2], moe_layers=[0, 2]) as producer:
            producer.step(1)
            for layer in range(LAYERS):
                producer.record(layer, *self.routing(1))
            self.assertEqual(producer.totals, (1, 2, 2, 0))
        with self.open(sample_every=0) as producer:
            self.assertFalse(producer.step(1))

    def test_a_line_without_a_collector(self):
        with self.assertLogs("moetrace", "WARNING") as logs:
            self.open().close()
        self.assertEqual(len(logs.output), 1)
        self.assertIn("no collector serves this trace yet", logs.output[0])
        self.collect()
        with self.assertNoLogs("moetrace", "WARNING"):
            self.open().close()

    def test_summary(self):
        with self.open(model_id="my/model") as producer:
            self.assertEqual(
                producer.summary,
                f"my/model: layers 0-2, session {self.session}, ring {self.rings}/moetrace.v1."
                f"{self.session}.{producer.trace_id}.ring: "
                "4 MiB from ring_mb: holds 21,845 tokens in 3 layers, 192 bytes a token",
            )
        self.assertEqual(self.open(enabled=False).summary, "")

    def test_layers_without_experts(self):
        self.collect()
        with (
            self.assertLogs("moetrace") as logs,
            self.open(layers=[0, 2], moe_layers=[1, 2]) as producer,
        ):
            producer.step(1)
            producer.record(2, *self.routing(1))
            self.assertEqual(producer.totals, (1, 1, 1, 0))
        self.assertEqual(
            [record.getMessage() for record in logs.records],
            ["moetrace: layers '0,2': left out layers without experts (0); the MoE layers are 1-2"],
        )
        with self.assertRaisesRegex(
            moetrace.TracingError,
            "^invalid value '0' for layers: none of .*; use some of 1-2, or all$",
        ):
            self.open(layers=[0], moe_layers=[1, 2])

    def test_a_full_ring_drops_and_counts(self):
        with self.open(ring_mb=1 / 128) as producer:
            rows = 4096
            producer.step(rows)
            for layer in range(LAYERS):
                producer.record(layer, *self.routing(rows))
            totals = producer.totals
        self.assertGreater(totals.dropped, 0)
        self.assertEqual(totals.recorded + totals.dropped, rows * LAYERS)

    def test_a_forked_child_records_nothing(self):
        self.collect()
        with self.open(num_layers=1) as producer:
            routing = self.routing(1)
            child = os.fork()
            if child == 0:
                producer.step(1)
                producer.record(0, *routing)
                os._exit(0 if producer.totals.recorded == 0 else 1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            producer.step(1)
            producer.record(0, *routing)
        self.assertEqual(self.lines_of_trace()[-1]["attempted"], 1)

    def test_closed_and_disabled_do_nothing(self):
        closed = self.open()
        closed.step(1)
        closed.record(0, *self.routing(1))
        closed.close()
        for producer, totals in (
            (closed, (1, LAYERS, 1, 0)),
            (self.open(enabled=False), (0, 0, 0, 0)),
        ):
            request = producer.request("x", 1)
            self.assertFalse(producer.step(1, [(request, 0, 0, 1)]))
            producer.record(0, *self.routing(1))
            request.end(1)
            producer.abort()
            cost = producer.cost
            producer.add_cost(1, 2)
            producer.close()
            self.assertEqual(producer.totals, totals)
            self.assertEqual(producer.cost, cost)
            self.assertIsNone(producer.failure)

    def test_enabled(self):
        for value, expected in (
            ("1", True),
            ("Yes", True),
            ("0", False),
            ("no", False),
            ("", False),
        ):
            os.environ["MOETRACE"] = value
            self.addCleanup(os.environ.pop, "MOETRACE", None)
            self.assertEqual(moetrace.enabled(), expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
