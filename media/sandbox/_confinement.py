"""Taking rights away from the process that reads an untrusted file, before it opens anything."""

import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import media
from media.sandbox import _landlock, _privileges, _seccomp
from media.sandbox._handed_files import HandedFiles
from media.sandbox._limits import SandboxLimits
from media.sandbox._protections import LANDLOCK, SECCOMP, USER
from media.sandbox._served_files import ServedFile

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

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
    _privileges.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def confine(
    limits: SandboxLimits,
    *,
    readable: Sequence[Path],
    writable: Sequence[Path],
    served: Mapping[Path, ServedFile],
    renews_cpu_limit: bool,
) -> list[str]:
    """Apply the limits to this process and what it starts, for good.

    Args:
        limits: Resources.
        readable: Files and folders it may read, besides Python's own.
        writable: Folders in which it may write; the first becomes the working directory.
        served: Files that it reads through its caller, by path.
        renews_cpu_limit: Whether it may call `renew_cpu_limit`.

    Returns:
        Names of the protections that it lacks.

    Raises:
        OSError: A protection the system has cannot be put up.
    """
    has_landlock, has_seccomp = _landlock.is_supported(), _seccomp.is_supported()
    # Where Landlock says which files are left, they are opened as ever.
    handed = HandedFiles(() if has_landlock or not _privileges.is_root() else readable, served)
    _limit_resources(limits, num_handed=len(handed))
    if not renews_cpu_limit:
        soft, _ = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + _CPU_GRACE_SECONDS))
    if writable:
        os.chdir(writable[0])
    if handed or served:
        handed.answer_paths()
    if sys.platform != "linux":
        return [SECCOMP, LANDLOCK, USER]
    _privileges.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if has_landlock:
        _landlock.restrict(readable=(*_CODE, *readable), writable=writable)
    is_other_user = _drop_privileges((*readable, *writable), may_keep_reading=has_landlock)
    if has_seccomp:
        _seccomp.install()
    # A user's own process stays the user's: Landlock says what it may touch.
    has_user = is_other_user or (has_landlock and not _privileges.is_root())
    protections = {LANDLOCK: has_landlock, SECCOMP: has_seccomp, USER: has_user}
    return [name for name, is_there in protections.items() if not is_there]


def _drop_privileges(given: Sequence[Path], *, may_keep_reading: bool) -> bool:
    """Returns whether this process has become another user than its caller."""
    was_root, parent = _privileges.is_root(), os.getppid()
    needed = (Path(os.__file__), Path(media.__file__), *given)
    is_other = _privileges.drop(needed=needed, may_keep_reading=may_keep_reading) and was_root
    die_with_parent(parent)  # the kernel forgets it where the user changes
    return is_other


def renew_cpu_limit(cpu_seconds: int) -> None:
    """Allow this much more processor time from now on, where the limit is one on progress."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit_resources(limits: SandboxLimits, *, num_handed: int) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.open_files + num_handed)
    if sys.platform == "linux":  # elsewhere the size is not known, and the limit not kept
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, mapped + limits.memory_bytes)
    renew_cpu_limit(limits.cpu_seconds)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
