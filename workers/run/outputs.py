"""The files that a run leaves: whether they may be written, and making them from its segments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from media import JoinReport, MediaInfo
from media.containers import MP4, check_output
from media.derived_names import beside
from media.picture_files import FIRST_FRAME, frame_path, is_frame_pattern
from workers.errors import InvalidRequestError, OutputExistsError, OutputFolderError
from workers.run.decisions import DecidedRun
from workers.run.folder import WorkFolder, work_folder_path
from workers.run.options import Existing, UpscaleOptions
from workers.run.record import RunRecord
from workers.run.report import OutputReport


@dataclass(frozen=True)
class MadeOutput:
    """What a run left.

    Attributes:
        output: For the report.
        joined: What became of the source's streams.
    """

    output: OutputReport
    joined: JoinReport


def compare_path(destination: Path, suffix: str) -> Path:
    """Where the side-by-side file of an output goes."""
    return beside(destination.with_suffix(""), f".compare{suffix}")


def check_destination(destination: Path, options: UpscaleOptions, existing: Existing) -> None:
    """Finds out before the work whether the output may be written, and makes the folder of numbered pictures.

    Args:
        destination: The output.
        options: What to make of the input.
        existing: What to do where the output exists; "resume" keeps it.

    Raises:
        OutputExistsError: If the output, or a comparison that is asked for, is there and shall stay.
        OutputFolderError: If its folder cannot be written to.
    """
    if existing == "refuse":
        _refuse_existing(destination, options)
    if not is_kept(destination, existing):
        _check_folder(destination)


def is_kept(destination: Path, existing: Existing) -> bool:
    """Whether an earlier run has finished the output, and it stays."""
    return existing == "resume" and is_there(destination) and not work_folder_path(destination).exists()


def _refuse_existing(destination: Path, options: UpscaleOptions) -> None:
    wanted = [destination]
    if options.use_compare_video:
        wanted.append(compare_path(destination, ".mp4"))
    if options.use_compare_image:
        wanted.append(compare_path(destination, ".png"))
    for path in wanted:
        if is_there(path):
            raise OutputExistsError(path)


def _check_folder(destination: Path) -> None:
    folder = destination.parent
    if is_frame_pattern(destination):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputFolderError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    if not folder.is_dir():
        raise OutputFolderError(f"the folder {folder} does not exist; create it, or choose another output")
    if not os.access(folder, os.W_OK):
        raise OutputFolderError(f"the folder {folder} cannot be written to; choose another output")


def is_there(destination: Path) -> bool:
    """Whether an output exists; of one file a frame, the first."""
    path = frame_path(destination, FIRST_FRAME) if is_frame_pattern(destination) else destination
    return path.exists()


def check_codec(destination: Path, codec: str, options: UpscaleOptions) -> None:
    """Finds out before the work whether the output, and a comparison that is asked for, can hold a codec.

    Raises:
        EncodeError: If the output cannot.
        InvalidRequestError: If the comparison cannot.
    """
    check_output(destination, codec)
    if options.use_compare_video and codec not in MP4.video:
        raise InvalidRequestError(
            f"the comparison is an MP4, which cannot hold {codec}; ask for a comparison picture instead"
        )


def join_run(
    work: WorkFolder,
    decided: DecidedRun,
    record: RunRecord,
    destination: Path,
    *,
    options: UpscaleOptions,
    join: Callable[..., JoinReport],
) -> MadeOutput:
    """Makes the final file, and the comparisons that are asked for, from the segments of a run.

    Args:
        work: Where the segments are.
        decided: The run.
        record: What it has finished: everything.
        destination: The final file.
        options: What was asked for.
        join: `media.join_segments`, or what does the same elsewhere.

    Raises:
        MediaError: If they cannot be joined.
    """
    compare_video = compare_image = None
    if options.use_compare_video:
        compare_video = compare_path(destination, ".mp4")
        # Two pictures side by side are neither a sphere nor two views.
        flat = replace(decided.info.video, spherical=None, stereo=None)
        info = replace(decided.info, video=flat)
        _join_files(work, info, record, 1, compare_video, options, join)
    joined = _join_files(work, decided.info, record, 0, destination, options, join)
    if options.use_compare_image:
        compare_image = compare_path(destination, ".png")
        # A run that was killed right here has moved it already.
        if work.image_path.exists():
            work.image_path.replace(compare_image)
    output = OutputReport(
        path=joined.path,
        width=decided.encoding.width,
        height=decided.encoding.height,
        num_frames=joined.num_frames,
        duration_seconds=joined.duration_seconds,
        size_bytes=joined.num_bytes,
        compare_video=compare_video,
        compare_image=compare_image,
    )
    return MadeOutput(output, joined)


def _join_files(
    work: WorkFolder,
    info: MediaInfo,
    record: RunRecord,
    which: int,
    destination: Path,
    options: UpscaleOptions,
    join: Callable[..., JoinReport],
) -> JoinReport:
    return join(
        [work.path / segment.names[which] for segment in record.segments],
        destination,
        source=info,
        start_seconds=options.start_seconds,
        duration_seconds=options.duration_seconds,
    )


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
