"""What a survey of the packets changes in what the head of a file told."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from media._picture_changes import PicturePart
from media._survey import Survey, survey
from media._time_line import TimeLine
from media.info import MediaInfo, PictureShape, VideoStreamInfo
from media.limits import InputLimits

_NUM_PLACES = 3
"""Places that a warning names; there may be hundreds."""


def with_survey(info: MediaInfo, *, keep_gaps: bool, limits: InputLimits) -> MediaInfo:
    """Read the file's packets, and correct what its head says of times and sizes."""
    found = survey(
        info.path,
        info.video.index,
        interval=1 / info.video.rate,
        other_programmes=info.other_programmes,
        keep_gaps=keep_gaps,
        limits=limits,
    )
    return info if found is None else apply_survey(info, found)


def apply_survey(info: MediaInfo, found: Survey) -> MediaInfo:
    """The same info with what was found. Pure."""
    last = found.line.stretches[-1]
    end = max(Fraction(0), last.end_seconds + last.shift_seconds - info.origin_seconds)
    warnings = [*info.warnings, *_describe_line(found.line, info.origin_seconds)]
    video, changes = _with_parts(info.video, found.parts)
    if found.is_untimed:
        end = found.num_frames / video.rate
    video = replace(
        video,
        is_untimed=found.is_untimed,
        num_frames_estimate=video.num_frames_estimate or found.num_frames,
    )
    info = replace(info, video_end_seconds=end, video=video, warnings=(*warnings, *changes))
    if len(found.line.stretches) < 2:
        return info
    return replace(
        info,
        stretches=found.line.stretches,
        duration_seconds=end,
        video=replace(
            video, duration_seconds=end - video.start_seconds, num_frames_estimate=found.num_frames
        ),
    )


def _describe_line(line: TimeLine, origin: Fraction) -> Iterator[str]:
    if line.joints:
        yield (
            f"time stamps begin anew at {_places(line.joints, origin)} (files joined end to end?); the parts "
            "follow one another without a break"
        )
    if line.closed:
        lengths = ", ".join(f"{float(length):.1f} s" for _, length in line.closed[:_NUM_PLACES])
        yield (
            f"time stamps jump forward by {lengths} at {_places([at for at, _ in line.closed], origin)}; "
            "gaps are closed to one frame (--keep-gaps, keep_gaps in the API, leaves them)"
        )
    if line.kept:
        lengths = ", ".join(f"{float(length):.1f} s" for _, length in line.kept[:_NUM_PLACES])
        yield (
            f"time stamps jump forward by {lengths} at {_places([at for at, _ in line.kept], origin)}; the "
            "picture stands still for that time, as was asked for"
        )


def _places(times: Sequence[Fraction], origin: Fraction) -> str:
    named = ", ".join(f"{float(time - origin):.2f} s" for time in times[:_NUM_PLACES])
    return f"{named} and {len(times) - _NUM_PLACES} more places" if len(times) > _NUM_PLACES else named


def _with_parts(video: VideoStreamInfo, parts: Sequence[PicturePart]) -> tuple[VideoStreamInfo, list[str]]:
    """The video described by all its parts: interlaced if any is, as large as the largest, pixels shaped as
    in most pictures of that size."""
    warnings: list[str] = []
    is_interlaced = video.is_interlaced or any(part.is_interlaced for part in parts)
    if is_interlaced and not video.is_interlaced:
        warnings.append(
            "the video is interlaced in places only; those are deinterlaced (--no-deinterlace, deinterlace "
            "in the API, leaves them)"
        )
    video = replace(video, is_interlaced=is_interlaced)
    shapes = _shapes(parts)
    if len({part.shape for part in parts}) < 2:
        return video, warnings
    largest = max(shapes, key=lambda shape: shape.width * shape.height)
    if len(shapes) > 1:
        listed = ", ".join(f"{shape.width}x{shape.height}" for shape in shapes)
        warnings.append(
            f"the picture size changes on the way ({listed}); all is fitted into "
            f"{largest.width}x{largest.height}"
        )
        video = replace(video, shapes=tuple(shapes))
    ratios = {
        part.shape.sample_aspect_ratio
        for part in parts
        if (part.shape.width, part.shape.height) == (largest.width, largest.height)
    }
    if len(ratios) > 1:
        shown = largest.sample_aspect_ratio * Fraction(largest.width, largest.height)
        warnings.append(
            f"the shape of the picture changes on the way; all is shown {float(shown):.3f} : 1, as the "
            "longest part, since MP4 has one shape for all"
        )
    return replace(
        video,
        width=largest.width,
        height=largest.height,
        sample_aspect_ratio=largest.sample_aspect_ratio,
    ), warnings


def _shapes(parts: Sequence[PicturePart]) -> list[PictureShape]:
    """A shape for each size, with the pixels that most of its pictures have."""
    lengths: dict[PictureShape, int] = {}
    for part in parts:
        lengths[part.shape] = lengths.get(part.shape, 0) + part.num_frames
    sizes = dict.fromkeys((shape.width, shape.height) for shape in lengths)
    return [
        max(
            (shape for shape in lengths if (shape.width, shape.height) == size),
            key=lambda shape: lengths[shape],
        )
        for size in sizes
    ]
