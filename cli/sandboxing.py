"""Whether commands read files in processes that may die of them, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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

IS_POSSIBLE = sys.platform != "win32"
"""Whether this system can fork."""


def media_access(*, use_sandbox: bool) -> MediaAccess:
    """How a run gets at files. The sandbox starts in the background, while a model loads."""
    if not (use_sandbox and IS_POSSIBLE):
        from workers.run.access import IN_THIS_PROCESS

        return IN_THIS_PROCESS
    from media.sandbox import shared_sandbox

    sandbox = shared_sandbox("read")
    sandbox.start_ahead()
    from workers.run.access import confined_access

    return confined_access(sandbox)
