"""What the hook needs to know of a numpy array or a torch tensor, without importing either."""

from __future__ import annotations

import sys
from typing import Any, Callable, NamedTuple, Optional

from . import _library


class ArrayView(NamedTuple):
    """A contiguous [rows, top_k] array, as the C API takes it."""

    address: int
    type: int  # moetrace_type
    rows: int
    cuda_device: Optional[int]  # None: host memory
    owner: Any  # keeps the memory alive


def views_of(
    ids: Any, weights: Any, top_k: int, cuda_device: Optional[int]
) -> tuple[ArrayView, Optional[ArrayView]]:
    """Views of a layer's ids and weights; weights may be None.

    Both must be in the memory that the producer was opened for: that of the GPU `cuda_device`, or
    with None the host's. Raises TypeError or ValueError for arrays that don't fit.
    """
    i = _view_of("ids", ids, _library.ID_TYPES, top_k)
    w = None if weights is None else _view_of("weights", weights, _library.WEIGHT_TYPES, top_k)
    if w is not None and w.rows != i.rows:
        raise ValueError(
            f"record: ids has {i.rows} rows and weights {w.rows}; they must have the same"
        )
    for what, array in (("ids", i), ("weights", w)):
        if array is not None and array.cuda_device != cuda_device:
            raise TypeError(
                f"record: {what} is {_place(array.cuda_device)}, but the producer was opened "
                f"for arrays {_place(cuda_device)}"
            )
    return i, w


def _view_of(what: str, array: Any, types: dict[str, int], top_k: int) -> ArrayView:
    """A view of `array` [rows, top_k], whose dtype is one of `types`.

    An array in host memory that is not contiguous is copied. `what` names the argument in errors.
    Raises TypeError for another kind, dtype or device, and ValueError for another shape or for GPU
    memory that is not contiguous.
    """
    dtype, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    if dtype is None or shape is None:
        raise TypeError(
            f"record: {what} is a {type(array).__name__}; give a numpy array or a torch tensor"
        )
    name = str(dtype).removeprefix("torch.")
    if name not in types:
        raise TypeError(f"record: {what} has dtype {name}; it must be one of {', '.join(types)}")
    if len(shape) != 2 or shape[1] != top_k:
        raise ValueError(f"record: {what} has shape {tuple(shape)}; it must be [rows, {top_k}]")
    if hasattr(array, "data_ptr"):
        return _view_of_tensor(what, array, types[name])
    if not array.flags.c_contiguous:
        array = array.copy(order="C")
    return ArrayView(array.__array_interface__["data"][0], types[name], shape[0], None, array)


def _view_of_tensor(what: str, tensor: Any, type_: int) -> ArrayView:
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise TypeError(f"record: {what} is on {device}; it must be on a CPU or a CUDA device")
    if not tensor.is_contiguous():
        if device.type == "cuda":
            raise ValueError(f"record: {what} is not contiguous; on a GPU it must be")
        tensor = tensor.contiguous()
    cuda_device = device.index if device.type == "cuda" else None
    return ArrayView(tensor.data_ptr(), type_, tensor.shape[0], cuda_device, tensor)


def _place(cuda_device: Optional[int]) -> str:
    return "in host memory" if cuda_device is None else f"on GPU {cuda_device}"


def stream_address(stream: Any, cuda_device: int) -> Optional[int]:
    """The cudaStream_t of `stream`: an address, a torch.cuda.Stream, or None for torch's current
    stream (without torch, the default stream, whose address is None)."""
    if stream is not None:
        return getattr(stream, "cuda_stream", stream) or None
    return current_stream()(cuda_device) or None


_raw_stream: Optional[Callable[[int], int]] = None


def current_stream() -> Callable[[int], int]:
    """A function from a device to the address of torch's current stream there. The address is 0 for
    the default stream, and without torch."""
    global _raw_stream
    if _raw_stream is None:
        torch = sys.modules.get("torch")
        if torch is None:
            return lambda device: 0
        # Equal to the public function, without a Stream object: a tenth of the time.
        _raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)
        if _raw_stream is None:
            _raw_stream = lambda device: torch.cuda.current_stream(device).cuda_stream  # noqa: E731
    return _raw_stream
