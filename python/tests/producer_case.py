"""Shared by the tests that record: a producer in a test's own folders."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402, F401  (in the folder just named; the tests take it from here)
import moetrace  # noqa: E402
import numpy  # noqa: E402

LAYERS, EXPERTS, TOP_K = 3, 60, 4


def open_producer(case, **options):
    """A producer of a `harness.Case`, that records every layer of every step."""
    producer = moetrace.Producer(
        **{
            "num_layers": LAYERS,
            "num_experts": EXPERTS,
            "top_k": TOP_K,
            "ring_mb": 4,
            "directory": str(case.rings),
            "session": case.session,
            "layers": "all",
            "sample_every": 1,
            **options,
        }
    )
    case.addCleanup(producer.close)
    return producer


class RecordingCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = numpy.random.default_rng(7)

    def open(self, **options):
        return open_producer(self, **options)

    def routing(self, rows, id_type="int64", weight_type="float32"):
        ids = numpy.stack([self.random.permutation(EXPERTS)[:TOP_K] for _ in range(rows)])
        return ids.astype(id_type), self.random.random((rows, TOP_K)).astype(weight_type)
