"""The vLLM adapter: records which experts vLLM routes to, without a line of vLLM changed.

vLLM finds `register` through the entry point group `vllm.general_plugins`. With MOETRACE=1 every model runner that is built from
then on gets a ring: its MoE layers are bound as soon as the model has been loaded, each step is announced with the requests and
positions of its rows, and what nobody announces (warm-up, graph capture, dummy passes, padding) leaves no row.

Releases are told apart by looking for what the hook needs, never by their numbers. Seen to work: 0.24, 0.32 and 0.33 on a
CPU, 0.24 on a GPU.
"""
from __future__ import annotations

from ..recording import _plugins
from ..recording._imports import when_imported


def register() -> None:
    """The plugin. Where MOETRACE does not turn it on it returns at once, and nothing is patched."""
    if not _plugins.asked_for("vllm"):
        return
    from . import _engine_end, _runners  # here, so that the untraced engine does not pay for it

    when_imported(_engine_end.MODULE, _engine_end.patch)
    for module in _runners.MODULES:
        when_imported(module, _runners.patch)
    when_imported(_runners.WORKER_MODULE, _runners.patch_worker)
