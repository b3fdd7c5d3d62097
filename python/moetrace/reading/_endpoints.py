"""Where collectors keep their sockets and endpoint lists. The same rules as in
daemon/runtime_folder.cpp, in the same order."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from typing import Optional

SERVICE_FOLDER = "/run/moetrace"
MOST_SOCKET_PATH = 107  # bytes of a socket's path, without its zero
MOST_LIST_BYTES = 64 << 10


def listed(session: str) -> Optional[str]:
    """The first endpoint that a living collector of the session has written down."""
    for folder in folders():
        if trusted(folder):
            endpoints = _read_list(folder, session)
            if endpoints:
                return endpoints[0]
    return None


def default(session: str) -> str:
    """Where a collector that is told nothing would publish."""
    for folder in folders():
        path = f"{folder}/{session}.pub"
        if _usable(folder) and len(os.fsencode(path)) <= MOST_SOCKET_PATH:
            break
    return f"ipc://{path}"


def folders() -> list[str]:
    own = f"moetrace-{os.getuid()}"
    runtime, temporary = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR")
    found = [SERVICE_FOLDER] if os.access(SERVICE_FOLDER, os.R_OK | os.X_OK) else []
    if runtime:
        found.append(f"{runtime}/moetrace")
    elif temporary:
        found.append(f"{temporary}/{own}")
    if f"/tmp/{own}" not in found[-1:]:
        found.append(f"/tmp/{own}")
    return found


def trusted(folder: str) -> bool:
    """Whether what is in the folder is to be believed: it is the service's, or ours alone."""
    try:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode):
            return False
        if _for_a_group(status):
            return not status.st_mode & stat.S_IWOTH
        return (
            status.st_uid == os.geteuid() and not status.st_mode & 0o022 and _trusted_parent(folder)
        )
    except OSError:
        return False


def _ours_or_root(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _for_a_group(folder: os.stat_result) -> bool:
    return bool(folder.st_mode & stat.S_ISGID) and _ours_or_root(folder.st_uid)


def _trusted_parent(folder: str) -> bool:
    status = os.stat(os.path.dirname(folder))
    return _ours_or_root(status.st_uid) and (
        not status.st_mode & stat.S_IWOTH or bool(status.st_mode & stat.S_ISVTX)
    )


def _usable(folder: str) -> bool:
    if os.path.lexists(folder):
        return trusted(folder) and os.access(folder, os.W_OK | os.X_OK)
    parent = os.path.dirname(folder)
    try:
        return os.access(parent, os.W_OK | os.X_OK) and _trusted_parent(folder)
    except OSError:
        return False


def _read_list(folder: str, session: str) -> list[str]:
    try:
        descriptor = os.open(
            f"{folder}/{session}.endpoint",
            os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
        )
    except (OSError, ValueError):
        return []
    try:
        status = os.fstat(descriptor)
        ours = _ours_or_root(status.st_uid) or _for_a_group(os.lstat(folder))
        if not stat.S_ISREG(status.st_mode) or not ours or not _locked(descriptor):
            return []
        return os.read(descriptor, MOST_LIST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether a collector holds the list: the lock on its first byte is gone with its process."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except (AttributeError, OSError):  # it can't be asked
        return True
    return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK
