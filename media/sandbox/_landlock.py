"""Landlock: a process may touch only the files it is given, and look into no other process.

The Python wrappers are young or rest; what is needed are three system calls. Kernels before 5.13, and those
built without it, do not have it: then the process runs without (see `is_supported`).
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

# The same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG = 1 << 5, 1 << 8
_TRUNCATE = 1 << 14

_ALL_OF_FIRST_VERSION = (1 << 13) - 1
_REFER, _IOCTL_DEVICE = 1 << 13, 1 << 15
_ADDED_IN_VERSION = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_READ = _READ_FILE | _READ_DIR | _EXECUTE
_WRITE = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE


class LandlockError(OSError):
    """Raised when the kernel does not take the rules."""


def is_supported() -> bool:
    """Whether this kernel has Landlock and it is on."""
    return sys.platform == "linux" and _version() > 0


def restrict(*, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Let this process and its later threads open nothing but these, for good; what is open stays open. It
    must have `no_new_privs` set.

    Args:
        readable: Files and folders with all below them; those that do not exist are passed over.
        writable: Folders in which files may be made, written, renamed and removed.

    Raises:
        LandlockError: The kernel does not take the rules.
    """
    handled = _ALL_OF_FIRST_VERSION
    for version, right in _ADDED_IN_VERSION.items():
        if version <= _version():
            handled |= right
    ruleset = _call(_CREATE_RULESET, struct.pack("=Q", handled), ctypes.c_size_t(8), ctypes.c_long(0))
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in writable:
            _allow(ruleset, path, _WRITE & handled)
        _call(_RESTRICT_SELF, ctypes.c_long(ruleset), ctypes.c_long(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, beneath)
        _call(_ADD_RULE, ctypes.c_long(ruleset), ctypes.c_long(_RULE_PATH_BENEATH), rule, ctypes.c_long(0))
    finally:
        os.close(beneath)


def _version() -> int:
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_long(_VERSION_FLAG))
    except LandlockError:
        return 0


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise LandlockError(code, f"the kernel does not take Landlock rules: {os.strerror(code)}")
    return result
