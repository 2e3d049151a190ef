"""Everything that touches a file nobody has vouched for, in processes with limited rights.

Decoders are large C libraries, and uploads are chosen by strangers. So probing, decoding and joining happen
in a child: it gets one request, has limits on memory, processor time, files and descriptors, has no network,
starts no program, signals and sees no other process (seccomp), opens no file but those it is given and
Python's own (Landlock), is nobody where its caller is root, has no secret in its environment, and dies with
its parent. What it answers is plain values and pixels; a crash, a hang or a lack of memory there is a
`SandboxError` here.

Measured on two shared cores (benchmarks/sandboxed_reading.py, 1280x720): the first probe takes 0.2 s, as it
starts the fork server; later ones take 24 ms more than without a sandbox; the first frame comes after 70 ms,
and frames at 0.96 of the plain reader's rate (164 and 170 per second), beside the caller's own work. A fork
server holds 46 MB, with torch 243 MB, which its children share.

Importing this package loads neither torch nor av; what returns images does when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from media.sandbox._calls import sandboxed_join, sandboxed_probe
from media.sandbox._cancellation import Cancellation
from media.sandbox._limits import SandboxLimits
from media.sandbox._protections import PROTECTIONS, is_confined, remedies
from media.sandbox._sandbox import PROBE_MODULES, READ_MODULES, Sandbox, shared_sandbox
from media.sandbox._served_files import Content
from media.sandbox._wire import decode, encode

if TYPE_CHECKING:
    from media.sandbox._pictures import (
        sandboxed_pack_animation,
        sandboxed_pack_pictures,
        sandboxed_picture,
    )
    from media.sandbox._reader import SandboxedReader

__all__ = [
    "PROBE_MODULES",
    "PROTECTIONS",
    "READ_MODULES",
    "Cancellation",
    "Content",
    "Sandbox",
    "SandboxLimits",
    "SandboxedReader",
    "decode",
    "encode",
    "is_confined",
    "remedies",
    "sandboxed_join",
    "sandboxed_pack_animation",
    "sandboxed_pack_pictures",
    "sandboxed_picture",
    "sandboxed_probe",
    "shared_sandbox",
]

_LATE = {
    "SandboxedReader": "media.sandbox._reader",
    **dict.fromkeys(
        ("sandboxed_pack_animation", "sandboxed_pack_pictures", "sandboxed_picture"),
        "media.sandbox._pictures",
    ),
}


def __getattr__(name: str) -> object:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
