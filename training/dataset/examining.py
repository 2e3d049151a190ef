"""Reading a file once, for all that is to be known of its scenes."""

from __future__ import annotations

from pathlib import Path

from media.errors import MediaError
from training.dataset.access import SourceAccess
from training.dataset.config import DatasetConfig
from training.dataset.measuring import STRIDE, FilmMeter, FrameTime
from training.dataset.records import Examination, ScenePart, SourceFacts
from training.dataset.scenes import CutFinder, PartSpan, plan_parts
from training.degradation import to_uint8

Thumbnails = dict[str, bytes]
"""JPEG pictures of parts, by `thumbnail_name`."""


def measured_with(config: DatasetConfig) -> dict[str, float]:
    """The limits that measuring depends on: with others a file is read anew."""
    return {
        "min_frames": config.metadata.min_frames,
        "max_frames": config.scenes.max_frames,
        "margin": config.scenes.margin,
        "min_motion": config.motion.min_motion,
    }


def thumbnail_name(scene: int, part: int) -> str:
    return f"{scene:04d}-{part:02d}.jpg"


def examine(
    facts: SourceFacts, config: DatasetConfig, access: SourceAccess
) -> tuple[Examination, Thumbnails]:
    """Reads all frames of a file. What cannot be read is said in the result."""
    meter, error, warnings = FilmMeter(), "", ()
    cuts = CutFinder(facts.rate)
    frame_ticks, time_base = 1.0, 1.0
    try:
        info = access.probe(Path(facts.path))
        with access.open_reader(info, deinterlace=False) as reader:
            time_base = float(reader.time_base)
            frame_ticks = float(1 / reader.rate / reader.time_base)
            try:
                for frame in reader.frames():
                    image = to_uint8(frame.image[None])[0]
                    cuts.add(image)
                    meter.add(image, FrameTime(frame.pts, frame.duration))
            finally:
                warnings = tuple(reader.warnings)
    except MediaError as caught:
        error = str(caught)

    parts, thumbnails = [], {}
    for span in plan_parts(cuts.finish(), len(meter.times), config.scenes):
        parts.append(_describe(span, meter, config, frame_ticks=frame_ticks, time_base=time_base))
        thumbnails[thumbnail_name(span.scene, span.part)] = meter.thumbnail(span)
    examination = Examination(
        facts=facts,
        measured_with=measured_with(config),
        error=error,
        warnings=warnings,
        num_frames=len(meter.times),
        parts=tuple(parts),
    )
    return examination, thumbnails


def _describe(
    span: PartSpan, meter: FilmMeter, config: DatasetConfig, *, frame_ticks: float, time_base: float
) -> ScenePart:
    pts = meter.times[min(span.begin, len(meter.times) - 1)].pts
    # Fewer frames than this may have no sample, and are no clip.
    is_long_enough = span.end - span.begin >= max(config.metadata.min_frames, 2 * STRIDE)
    return ScenePart(
        scene=span.scene,
        part=span.part,
        num_parts=span.num_parts,
        first_frame=span.begin,
        num_frames=span.end - span.begin,
        pts=pts,
        start_seconds=round(pts * time_base, 3),
        measures=meter.measure(span, frame_ticks) if is_long_enough else None,
        moving=meter.moving(span, min_motion=config.motion.min_motion) if is_long_enough else None,
        picture=meter.picture(span) if is_long_enough else None,
    )
