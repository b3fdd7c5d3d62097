"""Shared by the tests that record: a producer in a test's own folders."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402, F401  (in the folder just named; the tests take it from here)
import moetrace  # noqa: E402

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
