"""Outputs that are one picture for each frame: `out/%06d.png`, or `.tif` with 16 bits.

Segments hold the coded pictures as packets, so that a run resumes like any other; here they become files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av

from media.derived_names import beside
from media.errors import EncodeError, SegmentMismatchError
from media.picture_files import FIRST_FRAME, frame_path


def write_frame_files(segments: Sequence[Path], pattern: Path) -> tuple[int, int, Fraction]:
    """Writes each packet of segments to a file of its own; existing ones are replaced.

    Returns:
        Frames, bytes of all files, and the end of the last frame in seconds.

    Raises:
        SegmentMismatchError: A segment cannot be read.
        EncodeError: A file cannot be written.
    """
    num_frames = num_bytes = 0
    end = Fraction(0)
    for data, frame_end in _coded_frames(segments):
        path = frame_path(pattern, FIRST_FRAME + num_frames)
        part = beside(path, ".part")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise EncodeError(f"cannot write {path}: {error.strerror or error}") from error
        num_frames, num_bytes, end = num_frames + 1, num_bytes + len(data), max(end, frame_end)
    return num_frames, num_bytes, end


def _coded_frames(segments: Sequence[Path]) -> Iterator[tuple[bytes, Fraction]]:
    for segment in segments:
        try:
            with av.open(
                str(segment.absolute()), format="mp4", options={"protocol_whitelist": "file"}
            ) as opened:
                for packet in opened.demux(video=0):
                    if packet.size and packet.pts is not None:
                        yield bytes(packet), (packet.pts + (packet.duration or 0)) * packet.time_base
        except (av.FFmpegError, OSError) as error:
            raise SegmentMismatchError(
                f"segment {segment} cannot be read: {error.strerror or error}"
            ) from error
