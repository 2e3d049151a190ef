"""What people see while videos are upscaled: a progress bar, or lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from workers.run.progress import Progress
    from workers.run.report import UpscaleReport

LINE_INTERVAL_SECONDS = 10.0
_MOST_NAMES = 20


class Display(Protocol):
    """Shows the progress of one input after the other."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def warn(self, text: str) -> None:
        """Shows a warning."""
        ...

    def begin(self, name: str) -> Callable[[Progress], None]:
        """Begins with an input; what it returns is to be called with every progress."""
        ...


def make_display(*, is_quiet: bool) -> Display:
    """A bar on a terminal, lines elsewhere, nothing if quiet. All on stderr: stdout is for results."""
    if is_quiet:
        return _Silence()
    return _Bar() if sys.stderr.isatty() else _Lines()


class _Silence:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def begin(self, name: str) -> Callable[[Progress], None]:
        return lambda progress: None


class _Lines(_Silence):
    """A line when a stage begins and every few seconds."""

    def warn(self, text: str) -> None:
        print_line(text)

    def begin(self, name: str) -> Callable[[Progress], None]:
        state: dict[str, Any] = {"stage": None, "shown": 0.0, "start": 0.0}
        lock = threading.Lock()

        def show(progress: Progress) -> None:
            now = time.monotonic()
            with lock:
                if progress.stage != state["stage"]:
                    state.update(stage=progress.stage, start=now)
                elif now - state["shown"] < LINE_INTERVAL_SECONDS:
                    return
                state["shown"] = now
                print_line(f"{name}: {describe(progress, now - state['start'])}")

        return show


class _Bar:
    """rich's bar: stage, frames, frames per second, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.fields[name]}"),
            TextColumn("[cyan]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def warn(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str) -> Callable[[Progress], None]:
        task = self._progress.add_task("", name=name, pace="", total=None)
        start = time.monotonic()

        def show(progress: Progress) -> None:
            # A source that says too little would leave the bar beyond its end.
            total = None if progress.num_total is None else max(progress.num_total, progress.num_done)
            self._progress.update(
                task,
                description=progress.stage,
                completed=progress.num_done,
                total=total,
                pace=pace(progress, time.monotonic() - start),
            )

        return show


class Warnings:
    """Shows a run's warnings as soon as they are known, each once: it may go on for hours after them."""

    def __init__(self, report: UpscaleReport, display: Display) -> None:
        self._report, self._display = report, display
        self._num_shown = 0
        self._lock = threading.Lock()

    def while_running(self, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """What to call with every progress, in the place of `show`."""

        def show_both(progress: Progress) -> None:
            self.show_new()
            show(progress)

        return show_both

    def show_new(self) -> None:
        """Shows what has not been shown."""
        with self._lock:
            new = self._report.warnings[self._num_shown :]
            self._num_shown += len(new)
        for warning in new:
            self._display.warn(f"{self._report.source.name}: warning: {warning}")


def describe(progress: Progress, seconds: float) -> str:
    """One line about a moment: stage, frames, pace."""
    if progress.stage != "upscaling":
        return progress.stage
    total = "" if progress.num_total is None else f"/{progress.num_total}"
    detail = pace(progress, seconds)
    return f"upscaling, {progress.num_done}{total} frames" + (f", {detail}" if detail else "")


def pace(progress: Progress, seconds: float) -> str:
    """Frames per second and the time left; "" while nothing can be said."""
    num_new = progress.num_done - progress.num_resumed
    if progress.stage != "upscaling" or num_new < 1 or seconds <= 0:
        return ""
    speed = num_new / seconds
    text = f"{speed:.2f} fps" if speed < 10 else f"{speed:.0f} fps"
    if progress.num_total is None or progress.num_done >= progress.num_total:
        return text
    return f"{text}, {clock_time((progress.num_total - progress.num_done) / speed)} left"


def count_of_frames(number: int) -> str:
    """ "1 frame", "40 frames"."""
    return f"{number} frame{'' if number == 1 else 's'}"


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds, "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summarize(report: UpscaleReport) -> str:
    """One line about a finished input."""
    if report.status == "kept":
        return f"{report.destination} was finished before"
    if report.output is None:
        return f"{report.source}: {report.error.message if report.error else report.status}"
    output = report.output
    speed = "" if report.frames_per_second is None else f", {report.frames_per_second:.2f} fps"
    resumed = f", {report.num_resumed_frames} from an earlier run" if report.num_resumed_frames else ""
    return (
        f"{output.path}: {output.width}x{output.height}, {count_of_frames(output.num_frames)}{resumed}, "
        f"{clock_time(float(output.duration_seconds))}, {output.size_bytes / 1e6:.1f} MB, in "
        f"{clock_time(report.seconds)}{speed}"
    )


def print_skipped(skipped: Sequence[Path], *, is_quiet: bool) -> None:
    """Writes one line about what lies in folders and is not taken."""
    if not skipped or is_quiet:
        return
    names = [f"{path.name}/" if path.is_dir() else path.name for path in skipped]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    print_line(f"skipped, by their names no inputs: {', '.join(names[:_MOST_NAMES])}{more}")


def print_line(text: str) -> None:
    """Writes a line for people to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
