"""Giving up what a process of root may do beyond others: its user and its capabilities.

A container's process often is root, and root reads every file of the machine whatever its mode says. So a
child of root becomes a user to whom no file belongs, and keeps none of root's capabilities. One exception:
where Landlock stands in front, and an input or Python itself lies where only root can go (a pulled Python in
/root, a private folder), the child may still look into folders and read (`CAP_DAC_READ_SEARCH`): of the few
files that Landlock leaves it.
"""

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from media.errors import SandboxError

NOBODY = 65534
"""User and group of the children of root: those that own no file ("nobody", "nogroup")."""

# From linux/capability.h: three sets of 64 bits, each as two words; 0 is this process.
_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)
_CAP_DAC_READ_SEARCH = 2
_MAX_CAPABILITY = 63

_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 8, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def is_root() -> bool:
    """Whether this process has a user to give up."""
    return os.geteuid() == 0


def drop(*, needed: Iterable[Path], may_keep_reading: bool) -> bool:
    """Give up the user, where this process is root, and all capabilities, for good. Linux only.

    Args:
        needed: Files that are read afterwards.
        may_keep_reading: Whether `CAP_DAC_READ_SEARCH` may be kept where one of them could not be read
            without.

    Returns:
        Whether the process is none of root's now.

    Raises:
        OSError: The kernel does not let them go.
    """
    _empty_bounding_set()
    prctl(_PR_SET_KEEPCAPS, 1)
    with contextlib.suppress(PermissionError):  # a container may leave root nothing, not even this
        if is_root():
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    # The permitted capabilities are still there, but none of them works.
    kept = 0
    if may_keep_reading and not is_root() and not all(map(_is_readable, needed)):
        kept = _permitted() & 1 << _CAP_DAC_READ_SEARCH
    prctl(_PR_SET_KEEPCAPS, 0)
    _keep_capabilities(kept)
    return not is_root()


@contextmanager
def lent_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Let children write into folders and the files in them while the block runs. Afterwards all of it is as
    it was, and what is new is the caller's.

    Raises:
        SandboxError: A child left something in them that is no file of its own, or they cannot be lent.
    """
    if not is_root():
        yield
        return
    lent: dict[Path, os.stat_result] = {}
    folders = tuple(folders)
    try:
        for folder in folders:
            for path in (folder, *folder.iterdir()):
                status = path.lstat()
                if path == folder or _is_own_file(status):
                    os.chown(path, NOBODY, NOBODY, follow_symlinks=path == folder)
                    lent[path] = status
        yield
    except PermissionError as error:
        raise SandboxError(f"{path} cannot be lent to the process that reads the input: {error}") from error
    finally:
        for folder in folders:
            _take_back(folder, lent)


def _take_back(folder: Path, lent: Mapping[Path, os.stat_result]) -> None:
    if folder not in lent:
        return
    os.chown(
        folder, lent[folder].st_uid, lent[folder].st_gid
    )  # first: from now on nothing in it is exchanged
    for path in folder.iterdir():
        status = path.lstat()
        if status.st_uid != NOBODY:
            continue
        if not _is_own_file(status):
            # The caller would read through a link with its own rights.
            raise SandboxError(f"the process that reads the input wrote '{path.name}', which is no file")
        owner = lent.get(path)
        user, group = (owner.st_uid, owner.st_gid) if owner else (os.geteuid(), os.getegid())
        os.chown(path, user, group, follow_symlinks=False)


def _is_own_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _is_readable(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        return True  # not for us to say
    except OSError:
        return False
    return True


def _empty_bounding_set() -> None:
    """So that not even a program with capabilities of its own would get them. `no_new_privs` alone does as
    much; a process that may not change the set has it."""
    for capability in range(_MAX_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            return  # past the last one, or not allowed


def _permitted() -> int:
    sets = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(_CAPABILITY_HEADER, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget failed")
    _, permitted, *_ = struct.unpack("=6I", sets.raw)
    return int(permitted)


def _keep_capabilities(kept: int) -> None:
    with contextlib.suppress(OSError):  # kernels before 4.3 have no ambient ones
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(_CAPABILITY_HEADER, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def prctl(option: int, value: int) -> None:
    """The system call of that name.

    Raises:
        OSError: The kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    zeros = (ctypes.c_ulong(0),) * 3
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *zeros) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
