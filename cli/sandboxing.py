"""Whether commands read files in processes that may die of them, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from media import MediaInfo
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
