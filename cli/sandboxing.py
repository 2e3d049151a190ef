"""Whether commands read files in processes that may die of them, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from media import MediaInfo
    from media.sandbox import Sandbox
    from workers.run.access import MediaAccess

UseSandbox = Annotated[
    bool,
    typer.Option(
        "--sandbox/--no-sandbox",
        help="Read files in confined processes, whose death is an error of one input. Without, it is this "
        "command's end; for measuring.",
        rich_help_panel="Run",
    ),
]

_CAN_FORK = sys.platform != "win32"
# Of a slow disk: the packets of some files are all read.
_PROBE_SECONDS = 3600.0


def media_access(*, use_sandbox: bool) -> MediaAccess:
    """How a run gets at files. The sandbox starts in the background, while a model loads."""
    if not (use_sandbox and _CAN_FORK):
        from workers.run.access import IN_THIS_PROCESS

        return IN_THIS_PROCESS
    from media.sandbox import shared_sandbox

    sandbox = shared_sandbox("read")
    sandbox.start_ahead()
    from workers.run.access import confined_access

    return confined_access(sandbox)


def probe_alone(path: Path, *, use_sandbox: bool, video_stream: int | None) -> MediaInfo:
    """`media.probe`, for commands that only look: its sandbox needs no torch and starts in 0.2 s."""
    if not (use_sandbox and _CAN_FORK):
        from media.probing import probe

        return probe(path, video_stream=video_stream)
    from media.sandbox import sandboxed_probe

    return sandboxed_probe(path, video_stream=video_stream, timeout=_PROBE_SECONDS)


def check_sandbox(sandbox: Sandbox, *, is_required: bool) -> None:
    """Starts a process that would read a file, and looks at what confines it.

    Raises:
        UsageError: If it has to be confined and is not.
    """
    from media.sandbox import is_confined, remedies

    missing = sandbox.missing()
    if is_required and not is_confined(missing):
        raise UsageError(
            f"files of strangers would be read here without {' and '.join(missing)}, with this service's "
            f"rights: {remedies(missing)}. DOVETAIL_SANDBOX=prefer goes on without"
        )
