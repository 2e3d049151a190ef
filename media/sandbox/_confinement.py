"""Taking rights away from the process that reads an untrusted file, before it opens anything."""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import media
from media.sandbox import _landlock, _seccomp
from media.sandbox._limits import SandboxLimits

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

# From linux/capability.h: three sets of 64 bits, each as two words; 0 is this process.
_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2

# Between the signal that can be explained and the one that cannot be ignored.
_CPU_GRACE_SECONDS = 5

# Python, its packages and the system's libraries: modules and shared objects are loaded late too. The rest
# is what C libraries look at to count processors and memory.
_CODE = (
    *(Path(prefix) for prefix in (sys.prefix, sys.base_prefix)),
    Path(media.__file__).parent,
    *(Path(folder) for folder in ("/usr", "/lib", "/lib64")),
    *(Path(file) for file in ("/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")),
    *(Path(file) for file in ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system")),
)


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that comes about. Linux only; elsewhere its next read or
    write on a channel fails instead.

    Args:
        parent: The process that forked this one.
    """
    if sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def confine(
    limits: SandboxLimits, *, readable: Iterable[Path], writable: Iterable[Path], renews_cpu_limit: bool
) -> list[str]:
    """Apply the limits to this process and what it starts, for good.

    Args:
        limits: Resources.
        readable: Files and folders it may read, besides Python's own.
        writable: Folders in which it may write.
        renews_cpu_limit: Whether it may call `renew_cpu_limit`.

    Returns:
        Names of the protections this system does not have.

    Raises:
        OSError: A protection the system has cannot be put up.
    """
    _limit_resources(limits)
    if not renews_cpu_limit:
        soft, _ = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + _CPU_GRACE_SECONDS))
    if sys.platform != "linux":
        return ["seccomp", "landlock"]
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    missing = []
    if _landlock.is_supported():
        _landlock.restrict(readable=(*_CODE, *readable), writable=writable)
    else:
        missing.append("landlock")
    if _seccomp.is_supported():
        _seccomp.install()
    else:
        missing.append("seccomp")
    return missing


def renew_cpu_limit(cpu_seconds: int) -> None:
    """Allow this much more processor time from now on, where the limit is one on progress."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit_resources(limits: SandboxLimits) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    if sys.platform == "linux":  # elsewhere the size is not known, and the limit not kept
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, mapped + limits.memory_bytes)
    renew_cpu_limit(limits.cpu_seconds)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    """Give up what a process of root may do beyond others (a container's often is one), such as lifting its
    own limits; but go on reading files of other users, which Landlock has chosen."""
    libc = ctypes.CDLL(None, use_errno=True)
    sets = ctypes.create_string_buffer(24)
    if libc.capget(_CAPABILITY_HEADER, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget failed")
    kept = 1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH
    effective, permitted, *_ = struct.unpack("=6I", sets.raw)
    reduced = struct.pack("=6I", effective & kept, permitted & kept, 0, 0, 0, 0)
    if libc.capset(_CAPABILITY_HEADER, reduced) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zeros = (ctypes.c_ulong(0),) * 3
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *zeros) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
