"""Probing and joining in the sandbox: the same functions, for files that nobody has vouched for."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from media._syncing import sync_directory
from media.derived_names import beside
from media.errors import EncodeError, SandboxError
from media.info import MediaInfo
from media.limits import DEFAULT_LIMITS, InputLimits
from media.sandbox._cancellation import Cancellation
from media.sandbox._limits import SandboxLimits
from media.sandbox._sandbox import Sandbox, shared_sandbox

if TYPE_CHECKING:
    from media.join import JoinReport

T = TypeVar("T")

_GIB = 1 << 30

# Sound that MP4 does not carry is encoded to AAC, which may be some times as large.
_AUDIO_GROWTH = 4


def sandboxed_probe(
    path: str | Path,
    *,
    limits: InputLimits = DEFAULT_LIMITS,
    video_stream: int | None = None,
    keep_gaps: bool = False,
    is_quick: bool = False,
    timeout: float = 30.0,
    sandbox_limits: SandboxLimits | None = None,
    sandbox: Sandbox | None = None,
    cancellation: Cancellation | None = None,
) -> MediaInfo:
    """`media.probe` in a process of its own.

    Args:
        path: As for `media.probe`.
        limits: As for `media.probe`.
        video_stream: As for `media.probe`.
        keep_gaps: As for `media.probe`.
        is_quick: As for `media.probe`.
        timeout: Seconds by the clock.
        sandbox_limits: Resources of the process; None: 2 GiB and as many seconds as `timeout`.
        sandbox: Where to run; None: the one for probing that this process shares.
        cancellation: What may end it.

    Raises:
        MediaError: As `media.probe` raises.
        InputTimeoutError: It takes too long.
        InputMemoryError: It takes too much memory.
        SandboxError: The process that reads the file died of it.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - as `probe` does it, ".." taken out and links kept
    info = (sandbox or shared_sandbox("probe")).call(
        partial(_probe, limits=limits, video_stream=video_stream, keep_gaps=keep_gaps, is_quick=is_quick),
        absolute,
        timeout=timeout,
        limits=sandbox_limits or SandboxLimits(cpu_seconds=max(1, round(timeout))),
        readable=[absolute],
        cancellation=cancellation,
    )
    # Readers and joins are allowed to open the file that `info` names: the process must not choose it.
    return replace(_expect(MediaInfo, info), path=absolute)


def sandboxed_join(
    segments: Sequence[Path],
    destination: Path,
    *,
    source: MediaInfo,
    start_seconds: Fraction | None = None,
    duration_seconds: Fraction | None = None,
    timeout: float = 3600.0,
    sandbox_limits: SandboxLimits | None = None,
    sandbox: Sandbox | None = None,
    cancellation: Cancellation | None = None,
) -> "JoinReport":
    """`media.join_segments` in a process of its own, which may write in a new folder beside the destination
    only; what it wrote there is moved into place when it is whole.

    Args:
        segments: As for `join_segments`.
        destination: As for `join_segments`.
        source: As for `join_segments`.
        start_seconds: As for `join_segments`.
        duration_seconds: As for `join_segments`.
        timeout: Seconds by the clock.
        sandbox_limits: Resources of the process; None: 2 GiB, as many seconds as `timeout`, and an output
            somewhat larger than what goes in.
        sandbox: Where to run; None: the one for reading that this process shares.
        cancellation: What may end it.

    Raises:
        MediaError: As `join_segments` raises.
        InputTimeoutError: It takes too long.
        InputMemoryError: It takes too much memory.
        SandboxError: The process that reads the files died of it. Nothing is left of the output.
    """
    if sandbox_limits is None:
        sandbox_limits = SandboxLimits(
            cpu_seconds=max(1, round(timeout)),
            file_bytes=_GIB + _AUDIO_GROWTH * source.size_bytes + sum(_size(path) for path in segments),
        )
    with _landing_folder(destination) as folder:
        report = (sandbox or shared_sandbox("read")).call(
            _join,
            tuple(segment.absolute() for segment in segments),
            folder / destination.name,
            source,
            start_seconds,
            duration_seconds,
            timeout=timeout,
            limits=sandbox_limits,
            readable=[*segments, source.path],
            writable=[folder],
            cancellation=cancellation,
        )
    from media.join import JoinReport

    return replace(_expect(JoinReport, report), path=destination)


@contextmanager
def _landing_folder(destination: Path) -> Iterator[Path]:
    """A folder for a `with` block whose files then take their places beside the destination."""
    folder = beside(destination.absolute(), ".part")
    try:
        _remove(folder)  # what a killed run left
        folder.mkdir()
        try:
            yield folder
            for path in sorted(folder.iterdir()):
                path.replace(destination.parent / path.name)
            sync_directory(destination.parent)
        except EncodeError as error:
            raise EncodeError(str(error).replace(str(folder), str(destination.parent))) from error
        finally:
            _remove(folder)
    except OSError as error:
        raise EncodeError(f"cannot write {destination}: {error.strerror or error}") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _expect(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        name = type(value).__name__
        raise SandboxError(f"the process that reads the input answered nonsense: a {name}")
    return value


def _probe(
    path: Path, *, limits: InputLimits, video_stream: int | None, keep_gaps: bool, is_quick: bool
) -> MediaInfo:
    from media.probing import probe  # the caller's process is to do without av

    return probe(path, limits=limits, video_stream=video_stream, keep_gaps=keep_gaps, is_quick=is_quick)


def _join(
    segments: Sequence[Path],
    destination: Path,
    source: MediaInfo,
    start_seconds: Fraction | None,
    duration_seconds: Fraction | None,
) -> "JoinReport":
    from media.join import join_segments  # needs av and torch

    return join_segments(
        segments,
        destination,
        source=source,
        start_seconds=start_seconds,
        duration_seconds=duration_seconds,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
