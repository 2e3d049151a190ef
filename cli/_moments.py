"""What people see of jobs elsewhere: a bar for each, or lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from cli.display import LINE_INTERVAL_SECONDS, clock_time, print_line

if TYPE_CHECKING:
    from dovetail_client import Job


@dataclass(frozen=True)
class Moment:
    """How far something is.

    Attributes:
        stage: A word or two.
        fraction: 0-1; None where nothing can be said.
        detail: Frames, bytes, speed, time left.
    """

    stage: str
    fraction: float | None = None
    detail: str = ""


ShowFunction = Callable[[Moment], None]


def moment_of_job(job: Job) -> Moment:
    """How far a job is."""
    if job.status != "in_progress":
        detail = "" if job.queue_position is None else f"number {job.queue_position} in the queue"
        # An address is fetched while its job waits.
        stage = job.stage if job.status == "queued" and job.stage else str(job.status)
        return Moment(stage, 1.0 if job.status == "completed" else 0.0, detail)
    stage = job.stage or "in progress"
    if stage != "upscaling":
        return Moment(stage, job.progress / 100)
    total = "" if job.total_frames is None else f"/{job.total_frames}"
    facts = [f"{job.processed_frames}{total} frames"]
    if job.fps:
        facts.append(f"{job.fps:.2f} fps" if job.fps < 10 else f"{job.fps:.0f} fps")
    if job.eta_seconds is not None:
        facts.append(f"{clock_time(job.eta_seconds)} left")
    return Moment(stage, job.progress / 100, ", ".join(facts))


def moment_of_transfer(stage: str, num_done: int, num_total: int) -> Moment:
    """How far an upload or download is; bytes."""
    detail = f"{num_done / 1e6:.1f}/{num_total / 1e6:.1f} MB"
    return Moment(stage, num_done / num_total if num_total else 1.0, detail)


class MomentDisplay(Protocol):
    """Shows several things at once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...

    def begin(self, name: str) -> ShowFunction:
        """Begins with one; what it returns is to be called with every moment."""
        ...


def make_moment_display(*, is_quiet: bool) -> MomentDisplay:
    """Bars on a terminal, lines elsewhere, nothing if quiet. All on stderr: stdout is for results."""
    if is_quiet:
        return _Silence()
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Silence:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def begin(self, name: str) -> ShowFunction:
        return lambda moment: None


class _Lines(_Silence):
    """A line when a stage begins and every few seconds."""

    def begin(self, name: str) -> ShowFunction:
        last_stage, last_time = "", 0.0

        def show(moment: Moment) -> None:
            nonlocal last_stage, last_time
            now = time.monotonic()
            if moment.stage == last_stage and now - last_time < LINE_INTERVAL_SECONDS:
                return
            last_stage, last_time = moment.stage, now
            print_line(f"{name}: {moment.stage}" + (f", {moment.detail}" if moment.detail else ""))

        return show


class _Bars:
    """rich's bars: name, stage, bar, detail."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            TextColumn("[cyan]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(stderr=True),
            # What a terminal shows goes above the bars; what is piped must stay on stdout.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def begin(self, name: str) -> ShowFunction:
        task = self._progress.add_task("waiting", name=name, detail="", total=None)

        def show(moment: Moment) -> None:
            total = None if moment.fraction is None else 1.0
            self._progress.update(
                task,
                description=moment.stage,
                completed=moment.fraction or 0.0,
                total=total,
                detail=moment.detail,
            )

        return show
