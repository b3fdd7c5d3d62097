"""moetrace.Producer refuses what is wrong in one line, and records nothing of it."""

import unittest

import moetrace
import numpy
from producer_case import LAYERS, RecordingCase


class WrongUse(RecordingCase):
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

    def test_no_ring_is_one_line(self):
        for options in ({"directory": "/nowhere"}, {"top_k": 33}, {"num_layers": 0}):
            with self.assertRaises(moetrace.TracingError) as caught:
                self.open(**options)
            self.assertRegex(str(caught.exception), r"^[^\n]+: [^\n]+$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
