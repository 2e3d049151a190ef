"""Writing clips.

FFV1 in Matroska, R'G'B' of 8 bits: exactly the values that were measured and that training reads, with no
question of matrix or range, and a checksum in every slice. A clip takes a third of what `dovetail train`
holds of it in memory, so a lossy codec would spare a disk that is not short: the memory is.
"""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from media.errors import UnreadableInputError
from training.dataset.access import SourceAccess
from training.dataset.records import Box, ScenePart, SourceFacts
from training.degradation import to_uint8

_STEM_LENGTH = 60
_MAX_RATE_TERM = 1 << 16
_FORMAT = "bgr0"
"""What FFV1 calls R'G'B' of 8 bits."""


def clip_name(facts: SourceFacts, part: ScenePart, crop: Box) -> str:
    """A name that says where a clip is from, and that no clip of other content has."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(facts.path).stem).strip("-")[:_STEM_LENGTH] or "clip"
    content = f"{facts.sha256} {part.pts} {part.num_frames} {crop.model_dump_json()}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return f"{stem}-s{part.scene:03d}p{part.part}-{digest}.mkv"


def write_clip(path: Path, facts: SourceFacts, part: ScenePart, crop: Box, access: SourceAccess) -> None:
    """Reads a part of a file again and writes what is cut out of it, without loss.

    Raises:
        MediaError: If it can no longer be read, or has changed.
        OSError: If it cannot be written.
    """
    info = access.probe(Path(facts.path))
    rate = info.video.rate.limit_denominator(_MAX_RATE_TERM)
    num_frames = 0
    repack = VideoReformatter()
    with (
        access.open_reader(info, deinterlace=False) as reader,
        # Without it, Matroska draws numbers: the same clip would be another file each time.
        av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as file,
    ):
        stream = file.add_stream("ffv1", rate=rate, options={"level": "3", "slicecrc": "1", "slices": "4"})
        stream.width, stream.height, stream.pix_fmt = crop.width, crop.height, _FORMAT
        stream.time_base = Fraction(1) / rate
        for frame in islice(reader.frames(from_pts=part.pts), part.num_frames):
            rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
            image = to_uint8(frame.image[None, :, rows, columns])[0]
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture = repack.reformat(picture, format=_FORMAT, threads=1)
            picture.pts, picture.time_base = num_frames, stream.time_base
            file.mux(stream.encode(picture))
            num_frames += 1
        file.mux(stream.encode(None))
    if num_frames != part.num_frames:
        raise UnreadableInputError(
            f"{facts.path} gave {num_frames} frames from {part.start_seconds} s on where it gave "
            f"{part.num_frames} before"
        )
