"""How commands that follow jobs run them, and what they say at the end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NoReturn

import typer

from cli._client import connect, connect_async
from cli._following import Followed, Follower, overall_exit_code
from cli._moments import make_moment_display
from cli.display import count_of_frames, print_line
from cli.errors import print_error
from cli.upscale import terminated_as_interrupt

if TYPE_CHECKING:
    from dovetail_client import SubmitOptions


def follow_jobs(
    jobs: list[Followed],
    *,
    url: str | None,
    api_key: str | None,
    use_wait: bool,
    is_quiet: bool,
    options: SubmitOptions | None = None,
    use_echo: bool = False,
) -> bool:
    """Submits jobs, waits for them, downloads their results.

    Returns:
        Whether it was interrupted before the end.
    """

    async def follow() -> None:
        async with connect_async(url, api_key) as client:
            with make_moment_display(is_quiet=is_quiet) as display:
                follower = Follower(client, display, use_wait=use_wait, options=options, use_echo=use_echo)
                await follower.follow(jobs)

    try:
        with terminated_as_interrupt():
            asyncio.run(follow())
    except KeyboardInterrupt:
        return True
    return False


def cancel_unfinished(jobs: list[Followed], *, url: str | None, api_key: str | None) -> None:
    """Cancels what is still going on, as after an interrupt."""
    from dovetail_client import DovetailError

    with connect(url, api_key) as client:
        for followed in jobs:
            if followed.goes_on and followed.job is not None:
                try:
                    followed.job = client.cancel(followed.job)
                except DovetailError as error:
                    print_error(f"{followed.job.id}: {error}", [])


def finish(jobs: list[Followed], *, is_interrupted: bool, use_json: bool, is_quiet: bool) -> NoReturn:
    """Tells how it went and ends the command.

    Raises:
        typer.Exit: Always.
    """
    code = overall_exit_code(jobs, is_interrupted=is_interrupted)
    if use_json:
        results = [followed.to_json() for followed in jobs]
        content = {"version": 1, "exit_code": int(code), "error": None, "results": results}
        typer.echo(json.dumps(content, indent=2))
    for followed in jobs:
        _tell(followed, prefix=f"{followed.name}: " if len(jobs) > 1 else "", is_quiet=is_quiet)
    if is_interrupted:
        print_error("interrupted", way_back(jobs), is_interrupt=True)
    raise typer.Exit(code)


def way_back(jobs: list[Followed]) -> list[str]:
    """What to do about jobs that go on without the command."""
    ids = [followed.job.id for followed in jobs if followed.goes_on and followed.job is not None]
    num_unsent = sum(followed.job is None and followed.error is None for followed in jobs)
    lines = [f"{num_unsent} of {len(jobs)} were not submitted"] if num_unsent else []
    if not ids:
        return lines
    return [
        *lines,
        f"{'the job goes' if len(ids) == 1 else f'{len(ids)} jobs go'} on without this command:",
        f"  dovetail jobs watch {' '.join(ids)}",
        f"  dovetail jobs download {ids[0]}",
        f"or to stop: dovetail jobs cancel {' '.join(ids)}",
    ]


def _tell(followed: Followed, *, prefix: str, is_quiet: bool) -> None:
    if followed.error is not None:
        hint = []
        if followed.job is not None and followed.job.status == "failed":
            hint = [f"dovetail jobs retry {followed.job.id} goes on where it ended"]
        print_error(prefix + str(followed.error), hint)
    elif not is_quiet and followed.job is not None:
        for warning in followed.job.warnings:
            print_line(f"{prefix}warning: {warning}")
        if followed.saved is not None and followed.job.output is not None:
            output = followed.job.output
            print_line(
                f"{followed.saved}: {output.width}x{output.height}, {count_of_frames(output.num_frames)}, "
                f"{output.size_bytes / 1e6:.1f} MB"
            )
