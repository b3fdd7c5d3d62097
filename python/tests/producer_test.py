"""moetrace.Producer with a real collector: the trace has what was given, and nothing else.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on
PYTHONPATH.
"""

import os
import unittest

import moetrace
import numpy
from producer_case import EXPERTS, LAYERS, TOP_K, harness, open_producer


class ProducerTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = numpy.random.default_rng(7)

    def open(self, **options):
        return open_producer(self, **options)

    def routing(self, rows, id_type="int64", weight_type="float32"):
        ids = numpy.stack([self.random.permutation(EXPERTS)[:TOP_K] for _ in range(rows)])
        return ids.astype(id_type), self.random.random((rows, TOP_K)).astype(weight_type)

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

    def test_wrong_layer_tables(self):
        one = moetrace.LayerInfo(top_k=2)
        for table, why in (
            ({3: one}, "layer_table: layer is 3; it must be from 0 to 2"),
            ({-1: one}, "layer_table: layer is -1; it must be from 0 to 2"),
            ({0: 7}, "layer_table: layer 0 is 7; give a moetrace.LayerInfo"),
            ({0: one._replace(top_k="2")}, "layer_table: layer 0: top_k is '2'; give an integer"),
            ({0: one._replace(score=5)}, "layer_table: layer 0: score is 5; give a str"),
            (
                {0: one._replace(groups=2)},
                "layer_table: layer 0: groups and topk_groups go together; give both or neither",
            ),
            (
                {0: one._replace(top_k=5)},
                "options: layer table, layer 0: top_k is 5; expected at most 4; correct the entry, "
                "or leave it zero",
            ),
        ):
            with self.assertRaises((TypeError, ValueError, moetrace.TracingError)) as raised:
                self.open(layer_table=table)
            self.assertEqual(str(raised.exception), why)

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
                f"{self.session}.{producer.trace_id}.ring",
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

    def test_wrong_arrays(self):
        producer = self.open()
        ids, weights = self.routing(2)
        producer.step(2)
        for error, text, arguments in (
            (
                TypeError,
                "record: ids has dtype float32; it must be one of int16, int32, int64, uint32",
                (weights, weights),
            ),
            (
                TypeError,
                "record: weights has dtype float64; it must be one of float32, bfloat16, float16",
                (ids, weights.astype("float64")),
            ),
            (TypeError, "record: ids has dtype >i8", (ids.astype(">i8"), weights)),
            (
                TypeError,
                "record: ids is a list; give a numpy array or a torch tensor",
                (ids.tolist(), weights),
            ),
            (
                ValueError,
                r"record: ids has shape \(2, 3\); it must be \[rows, 4\]",
                (ids[:, :3], weights),
            ),
            (
                ValueError,
                "record: ids has 2 rows and weights 1; they must have the same",
                (ids, weights[:1]),
            ),
        ):
            with self.assertRaisesRegex(error, text):
                producer.record(0, *arguments)
        self.assertEqual(producer.totals.recorded, 0)

    def assert_one_line(self, error, text, function, *arguments, **more):
        with self.assertRaises(error) as caught:
            function(*arguments, **more)
        self.assertTrue(str(caught.exception).startswith(text), caught.exception)
        self.assertNotIn("\n", str(caught.exception))

    def test_wrong_layers(self):
        producer = self.open()
        producer.step(2)
        for error, text, layer in (
            (ValueError, "record: layer is 3; it must be from 0 to 2", LAYERS),
            (ValueError, "record: layer is -1; it must be from 0 to 2", -1),
            (TypeError, "record: layer is 1.0; give an integer", 1.0),
            (TypeError, "record: layer is 'layer 0'; give an integer", "layer 0"),
            (TypeError, "record: layer is None; give an integer", None),
        ):
            self.assert_one_line(error, text, producer.record, layer, *self.routing(2))
        self.assertEqual(producer.totals.recorded, 0)
        producer.record(numpy.int64(1), *self.routing(2))
        self.assertEqual(producer.totals.recorded, 2)

    def test_wrong_steps(self):
        producer = self.open()
        request = producer.request("a", 5)
        for error, text, rows, spans in (
            (
                TypeError,
                "step: the request of span 1 is 'a'; give what Producer.request gave, or its",
                2,
                [(request, 0, 0, 1), ("a", 0, 1, 1)],
            ),
            (TypeError, "step: the request of span 0 is None; give what", 2, [(None, 0, 0, 2)]),
            (
                ValueError,
                "step: the request of span 0 is -1; it must be from 0 to",
                2,
                [(-1, 0, 0, "x")],
            ),
            (
                TypeError,
                "step: the first position of span 0 is 0.5; give an integer",
                2,
                [(request, 0.5, 0, 2)],
            ),
            (
                TypeError,
                "step: the rows of span 0 is array([[0, 0], [0, 0]]); give an integer",
                2,
                [(request, 0, 0, numpy.zeros((2, 2), int))],
            ),
            (
                TypeError,
                "step: span 0 is (0, 2); give (request, first position, first row, rows)",
                2,
                [(0, 2)],
            ),
            (TypeError, "step: spans is None; give a list of (request,", 2, None),
            (TypeError, f"step: spans is ({request}, 0, 0, 2); give a list", 2, (request, 0, 0, 2)),
            (
                ValueError,
                "step: spans has dtype int64; it must be contiguous",
                2,
                numpy.zeros((2, 4), "int64"),
            ),
            (TypeError, "step: rows is 2.0; give an integer", 2.0, ()),
            (ValueError, "step: rows is -1; it must be from 0 to 4294967295", -1, ()),
        ):
            self.assert_one_line(error, text, producer.step, rows, spans)
        self.assertEqual(producer.totals.steps, 0)
        two = numpy.arange(3)[2]
        self.assertTrue(producer.step(two, [(request, two, two - 2, two)]))

    def test_no_model(self):
        for what in (None, "my/model"):
            self.assert_one_line(
                TypeError,
                "trace: expected a model of Hugging Face transformers, not a "
                f"{type(what).__name__}; give one",
                moetrace.trace,
                what,
            )

    def test_wrong_requests(self):
        producer = self.open()
        self.assert_one_line(TypeError, "request: id is 5; give a str", producer.request, 5)
        self.assert_one_line(
            TypeError, "request: prompt_tokens is 1.5; give an integer", producer.request, "a", 1.5
        )
        self.assert_one_line(
            ValueError,
            "request: cached_tokens is -1; it must be from 0",
            producer.request,
            "a",
            1,
            -1,
        )
        request = producer.request("a", numpy.int64(5))
        self.assert_one_line(TypeError, "end: status is None; give a str", request.end, 1, None)
        self.assert_one_line(
            TypeError, "end: generated_tokens is 'stop'; give an integer", request.end, "stop"
        )

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

    def test_no_ring_is_one_line(self):
        for options in ({"directory": "/nowhere"}, {"top_k": 33}, {"num_layers": 0}):
            with self.assertRaises(moetrace.TracingError) as caught:
                self.open(**options)
            self.assertRegex(str(caught.exception), r"^[^\n]+: [^\n]+$")

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
