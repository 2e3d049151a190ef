"""What stands between a sandboxed process and the rest of the machine, by name."""

from collections.abc import Collection

SECCOMP, LANDLOCK, USER = "seccomp", "landlock", "unprivileged-user"
PROTECTIONS = (SECCOMP, LANDLOCK, USER)

_REMEDIES = {
    SECCOMP: "run on Linux, x86-64 or arm64, with seccomp filters (a container must not refuse seccomp(2))",
    LANDLOCK: "use a kernel with Landlock (5.13 or newer, 'landlock' in its list of security modules; a "
    "container must let its system calls through), or start as root with CAP_SETUID, CAP_SETGID and "
    "CAP_CHOWN, so that inputs are read as another user",
    USER: "start as another user than root, or as root with CAP_SETUID, CAP_SETGID and CAP_CHOWN",
}


def is_confined(missing: Collection[str]) -> bool:
    """Whether a process that lacks these still cannot read other files, such as the service's secrets, nor
    send them anywhere: Landlock names the files, or a user to whom none belongs reads them; seccomp has to be
    there either way."""
    return SECCOMP not in missing and not {LANDLOCK, USER} <= set(missing)


def remedies(missing: Collection[str]) -> str:
    """What an operator can do about protections that are missing."""
    wanted = [name for name in (SECCOMP, LANDLOCK) if name in missing] or list(missing)
    return "; ".join(_REMEDIES[name] for name in wanted)
