"""What the hook needs to know about an array of numpy's or a tensor of torch's, without importing either."""
from __future__ import annotations

import sys
from typing import Any, Callable, NamedTuple, Optional


class Rows(NamedTuple):
    """A contiguous [rows, top_k] array."""

    address: int
    type: int  # moetrace_type
    rows: int
    cuda_device: Optional[int]  # None: host memory
    owner: Any  # keeps the memory alive


def rows_of(what: str, array: Any, types: dict[str, int], top_k: int) -> Rows:
    """`array` [rows, top_k] of one of `types`, as the C API takes it.

    A copy is made of what is not contiguous, in host memory only. `what` is the argument's name, for the message of the
    TypeError (not an array, or of another dtype or device) or ValueError (another shape, or not contiguous on a GPU).
    """
    dtype, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    if dtype is None or shape is None:
        raise TypeError(f"record: {what} is a {type(array).__name__}; give a numpy array or a torch tensor")
    name = str(dtype).removeprefix("torch.")
    if name not in types:
        raise TypeError(f"record: {what} has dtype {name}; it must be one of {', '.join(types)}")
    if len(shape) != 2 or shape[1] != top_k:
        raise ValueError(f"record: {what} has shape {tuple(shape)}; it must be [rows, {top_k}]")
    if hasattr(array, "data_ptr"):
        return _torch_rows(what, array, types[name])
    if not array.flags.c_contiguous:
        array = array.copy(order="C")
    return Rows(array.__array_interface__["data"][0], types[name], shape[0], None, array)


def _torch_rows(what: str, tensor: Any, type_: int) -> Rows:
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise TypeError(f"record: {what} is on {device}; it must be on a CPU or a CUDA device")
    if not tensor.is_contiguous():
        if device.type == "cuda":
            raise ValueError(f"record: {what} is not contiguous; on a GPU it must be")
        tensor = tensor.contiguous()
    return Rows(tensor.data_ptr(), type_, tensor.shape[0], device.index if device.type == "cuda" else None, tensor)


def stream_address(stream: Any, cuda_device: int) -> Optional[int]:
    """The cudaStream_t of `stream`: an address, a torch.cuda.Stream, or None for torch's current one (without torch, the
    default stream)."""
    if stream is not None:
        return getattr(stream, "cuda_stream", stream) or None
    return current_stream()(cuda_device) or None


_raw_stream: Any = None


def current_stream() -> Callable[[int], int]:
    """The function that gives the address of a device's current stream of torch's. 0: the default stream, as without torch."""
    global _raw_stream
    if _raw_stream is None:
        torch = sys.modules.get("torch")
        if torch is None:
            return lambda device: 0
        # The first is the same without an object around it: a tenth of the time.
        _raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
            lambda device: torch.cuda.current_stream(device).cuda_stream)
    return _raw_stream
