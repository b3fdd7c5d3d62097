"""The plugin for vLLM: records which experts vLLM routes to, without a change to vLLM.

vLLM finds `register` through the entry point group `vllm.general_plugins`. With MOETRACE=1 every
model runner that is built from then on gets a ring. Its MoE layers are bound as soon as the model
has been loaded, and each step is announced with the requests and positions of its rows. Passes that
are not announced (warm-up, graph capture, dummy passes) and padding leave no rows.

The adapter looks for what the hook needs, never at release numbers. Checked with 0.24, 0.32 and
0.33 on a CPU, and with 0.24 on a GPU.
"""

from __future__ import annotations

from ..recording import _adapter
from ..recording._imports import when_imported

# Both generations of the model runner, and the CPU's own: classes named ...ModelRunner.
RUNNER_MODULES = (
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.worker.cpu.model_runner",
)
WORKER_MODULE = "vllm.v1.worker.gpu_worker"
ENGINE_MODULE = "vllm.v1.engine.utils"


def register() -> None:
    """The plugin. Unless MOETRACE turns it on, it returns at once and patches nothing."""
    if not _adapter.asked_for("vllm"):
        return
    from . import _engine_end, _runners  # here, so that an untraced engine does not pay for them

    when_imported(ENGINE_MODULE, _engine_end.patch)
    for module in RUNNER_MODULES:
        when_imported(module, _runners.patch)
    when_imported(WORKER_MODULE, _runners.patch_worker)
