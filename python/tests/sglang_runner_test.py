"""SGLang's adapter without SGLang: batches and runners that have what it looks at. The rings are
real."""

import types
import unittest

import moetrace
from moetrace.sglang import _batches
from moetrace.sglang._process_tracer import ProcessTracer
from ring_case import WithRings


class Column(list):
    """What a tensor on the host is asked for."""

    def tolist(self):
        return list(self)


def batch(mode, requests, rows, **more):
    return types.SimpleNamespace(
        moetrace_requests=requests,
        forward_mode=types.SimpleNamespace(name=mode),
        positions=types.SimpleNamespace(shape=(rows,)),
        **more,
    )


class SglangBatches(unittest.TestCase):
    def test_decode(self):
        decode = batch("DECODE", ["a", "b"], 2, seq_lens_cpu=Column([8, 3]))
        self.assertEqual(_batches.layout_of(decode), ([7, 2], [1, 1]))

    def test_extend(self):
        lengths = dict(extend_prefix_lens_cpu=[4, 0], extend_seq_lens_cpu=[2, 5])
        self.assertEqual(
            _batches.layout_of(batch("EXTEND", ["a", "b"], 7, **lengths)), ([4, 0], [2, 5])
        )
        with self.assertRaisesRegex(
            ValueError, "^it has 8 rows, but its 2 requests have 7 together"
        ):
            _batches.layout_of(batch("EXTEND", ["a", "b"], 8, **lengths))

    def test_no_requests(self):
        self.assertEqual(_batches.layout_of(types.SimpleNamespace()), ([], []))

    def test_another_mode(self):
        with self.assertRaisesRegex(ValueError, "^its mode TARGET_VERIFY does not say"):
            _batches.layout_of(batch("TARGET_VERIFY", ["a"], 1))


class Runner:
    """A model runner of SGLang's: `forward` as the engine's."""

    is_draft_worker = False

    def init_cuda_graphs(self):
        pass

    def forward(self, forward_batch):
        if forward_batch.fails:
            raise MemoryError("the engine's own")
        return "logits"


class SglangRunner(WithRings):
    def setUp(self):
        super().setUp()
        self.tracer = ProcessTracer()
        self.runner = type("ModelRunner", (Runner,), {})
        self.tracer.patch_runner(types.SimpleNamespace(ModelRunner=self.runner))
        self.producer = self.tracer._producer = moetrace.Producer(
            num_layers=1, num_experts=4, top_k=2, directory=str(self.rings), ring_mb=0.0625
        )
        self.addCleanup(self.producer.close)

    def forward(self, **batch_options):
        request = types.SimpleNamespace(rid="a", origin_input_ids=[1, 2, 3])
        options = {"seq_lens_cpu": Column([3]), "fails": False, **batch_options}
        return self.runner().forward(batch("DECODE", [request], 1, **options))

    def test_a_pass_is_announced(self):
        self.assertEqual(self.forward(), "logits")
        self.assertEqual(self.producer.totals[:2], (1, 1))

    def test_the_engines_error_is_the_engines_after_recording_has_stopped(self):
        """A request without a prompt stops the recording. The pass then fails by itself."""
        with self.assertLogs("moetrace", "ERROR") as logs, self.assertRaises(MemoryError):
            self.runner().forward(
                batch(
                    "DECODE",
                    [types.SimpleNamespace(rid="a")],
                    1,
                    seq_lens_cpu=Column([3]),
                    fails=True,
                )
            )
        self.assertEqual(len(logs.records), 1)
        self.assertRegex(
            logs.records[0].getMessage(), "^moetrace: recording has stopped: AttributeError"
        )
        self.assertEqual(self.forward(), "logits")
        self.assertEqual(self.producer.totals.steps, 0)

    def test_a_pass_that_fails_is_withdrawn(self):
        with self.assertRaises(MemoryError):
            self.forward(fails=True)
        self.producer.record(0, numpy_ids())  # a later pass, which was not announced
        self.assertEqual(self.producer.totals, (1, 1, 0, 0))


def numpy_ids():
    import numpy

    return numpy.zeros((1, 2), "int64")


if __name__ == "__main__":
    unittest.main(verbosity=2)
