"""What the tests of moetrace.Producer share: a small producer in the test's ring directory."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402

LAYERS, EXPERTS, TOP_K = 3, 60, 4


def open_producer(case: harness.Case, **options):
    """Is closed when the test ends. `options` of moetrace.Producer replace or complete these."""
    options = {
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
    producer = moetrace.Producer(**options)
    case.addCleanup(producer.close)
    return producer
