"""Two collectives that vLLM needs for data-parallel MoE layers and lacks on a CPU: a vLLM plugin.

They are those of vLLM's CUDA communicator, along the first dimension. `install` prepares a folder
for PYTHONPATH in which vLLM finds the plugin.
"""

import pathlib
import shutil

import torch


def install(folder):
    shutil.copy(__file__, folder)
    described = pathlib.Path(folder) / "vllm_cpu_collectives-0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm-cpu-collectives\nVersion: 0\n"
    )
    (described / "entry_points.txt").write_text(
        "[vllm.general_plugins]\ncollectives = vllm_cpu_collectives:register\n"
    )


def register():
    from vllm.distributed.device_communicators.base_device_communicator import (
        DeviceCommunicatorBase,
    )

    DeviceCommunicatorBase.all_gatherv, DeviceCommunicatorBase.reduce_scatterv = (
        all_gatherv,
        reduce_scatterv,
    )


def all_gatherv(communicator, given, dim=0, sizes=None):
    """The concatenation of all ranks' tensors. given: one tensor, or several, of sizes[rank] rows
    (None: the same number on every rank)."""

    def gather(tensor):
        rows = sizes or [len(tensor)] * communicator.world_size
        padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in rows]
        torch.distributed.all_gather(parts, padded, group=communicator.device_group)
        return torch.cat([part[:count] for part, count in zip(parts, rows)])

    return (
        gather(given) if isinstance(given, torch.Tensor) else [gather(tensor) for tensor in given]
    )


def reduce_scatterv(communicator, given, dim=-1, sizes=None):
    """This rank's rows of the sum of all ranks' tensors."""
    total = given.clone()
    torch.distributed.all_reduce(total, group=communicator.device_group)
    return total.split(sizes or len(total) // communicator.world_size)[communicator.rank_in_group]
