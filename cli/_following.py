"""Submitting, waiting for and downloading several jobs at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from cli._moments import MomentDisplay, ShowFunction, moment_of_job, moment_of_transfer
from cli.errors import CommandError, InputError, OutputError, error_code
from cli.exit_codes import ExitCode, exit_code_for

if TYPE_CHECKING:
    from dovetail_client import AsyncDovetail, DovetailError, Job, SubmitOptions

# Every listener is a connection; beyond so many, jobs are asked for every few seconds instead.
MOST_LISTENERS = 8


@dataclass
class Followed:
    """A job from its source to its result.

    Attributes:
        name: For people.
        source: A file or a URL; None if the job exists already.
        container: What its result is to be, where the name of that is decided; None leaves it to the service.
        destination: Where the result goes; None if nobody wants it.
        job: As it was last seen; None until it is submitted.
        saved: The result, when it is there.
        error: What went wrong with it.
    """

    name: str
    source: Path | str | None = None
    container: str | None = None
    destination: Path | None = None
    job: Job | None = None
    saved: Path | None = None
    error: Exception | None = None
    is_done: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """What the exit code would be if it were alone."""
        if self.error is None:
            return ExitCode.OK
        return exit_code_for(error_code(self.error), default=ExitCode.SERVICE)

    @property
    def goes_on(self) -> bool:
        """Whether the service is still at it."""
        return self.job is not None and not self.job.status.is_final

    def to_json(self) -> dict[str, Any]:
        """What `--json` says of it."""
        return {
            "source": None if self.source is None else str(self.source),
            "output": None if self.saved is None else str(self.saved),
            "job": None if self.job is None else self.job.model_dump(mode="json"),
            "error": None
            if self.error is None
            else {"code": error_code(self.error), "message": str(self.error)},
        }


class Follower:
    """Takes jobs through their lives; one that fails does not keep the others from it.

    Args:
        use_wait: Whether to wait for their end.
        options: What to ask for when a source is submitted.
        use_echo: Whether to write the id of each new job to stdout.
    """

    def __init__(
        self,
        client: AsyncDovetail,
        display: MomentDisplay,
        *,
        use_wait: bool,
        options: SubmitOptions | None = None,
        use_echo: bool = False,
    ) -> None:
        self._client = client
        self._display = display
        self._use_wait = use_wait
        self._options: SubmitOptions = options or {}
        self._use_echo = use_echo
        # One after the other: the first ones are upscaled while the next ones are on their way.
        self._sending = asyncio.Lock()
        self._hopeless: DovetailError | None = None
        self._num_listeners = 0

    async def follow(self, jobs: list[Followed]) -> None:
        """Takes all of them to their end, and writes what happened into them."""
        await asyncio.gather(*(self._follow_one(followed) for followed in jobs))

    async def _follow_one(self, followed: Followed) -> None:
        from dovetail_client import DovetailError

        show = self._display.begin(followed.name)
        try:
            if followed.source is not None:
                await self._submit(followed, followed.source, show)
            if self._use_wait and followed.job is not None:
                await self._wait(followed, followed.job, show)
                if followed.destination is not None:
                    await self._download(followed, followed.job, followed.destination, show)
            followed.is_done = True
        except (DovetailError, CommandError) as error:
            followed.error = error

    async def _submit(self, followed: Followed, source: Path | str, show: ShowFunction) -> None:
        from dovetail_client import ConnectionFailedError, ForbiddenError, UnauthorizedError

        async with self._sending:
            if self._hopeless is not None:
                raise self._hopeless
            options = self._options
            if followed.container is not None:
                options = cast("SubmitOptions", {**options, "container": followed.container})
            try:
                followed.job = await self._client.submit(
                    source,
                    on_progress=lambda done, total: show(moment_of_transfer("uploading", done, total)),
                    **options,
                )
            except (ConnectionFailedError, UnauthorizedError, ForbiddenError) as error:
                self._hopeless = error  # the others would fare no better, only later
                raise
            except OSError as error:
                raise InputError(f"cannot read {source}: {(error.strerror or str(error)).lower()}") from error
        show(moment_of_job(followed.job))
        if self._use_echo:
            typer.echo(followed.job.id)

    async def _wait(self, followed: Followed, job: Job, show: ShowFunction) -> None:
        def update(news: Job) -> None:
            followed.job = news
            show(moment_of_job(news))

        self._num_listeners += 1
        use_events = self._num_listeners <= MOST_LISTENERS
        try:
            followed.job = await self._client.wait(job, on_update=update, use_events=use_events)
        finally:
            self._num_listeners -= 1

    async def _download(self, followed: Followed, job: Job, destination: Path, show: ShowFunction) -> None:
        try:
            followed.saved = await self._client.download(
                job,
                destination,
                on_progress=lambda done, total: show(moment_of_transfer("downloading", done, total)),
            )
        except OSError as error:
            raise output_error(error, destination) from error
        show(moment_of_job(job))


def output_error(error: OSError, destination: Path) -> OutputError:
    """The error of a result that cannot be written, in words for people."""
    return OutputError(f"cannot write {destination}: {(error.strerror or str(error)).lower()}")


def overall_exit_code(jobs: list[Followed], *, is_interrupted: bool) -> ExitCode:
    """The exit code for all jobs together."""
    if is_interrupted:
        return ExitCode.INTERRUPTED
    if len(jobs) == 1:
        return jobs[0].exit_code
    is_good = all(followed.error is None for followed in jobs)
    return ExitCode.OK if is_good else ExitCode.PARTIAL
