"""Step 1: what a file says of itself, and whether that is worth reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from media.errors import MediaError, UnreadableInputError
from media.info import MediaInfo
from media.picture_files import is_picture_source
from training.dataset.config import MetadataLimits
from training.dataset.records import Reason, SourceFacts

_HASHED_BYTES = 1 << 20


def look_at(path: Path, probe: Callable[[Path], MediaInfo]) -> SourceFacts:
    """Facts of a file, whatever it is. Reads it once, for its digest."""
    facts = SourceFacts(path=str(path), is_picture=is_picture_source(path))
    try:
        state = path.stat()
        facts = facts.model_copy(
            update={
                "size_bytes": state.st_size,
                "modified_ns": state.st_mtime_ns,
                "sha256": digest_of(path),
            }
        )
        return facts if facts.is_picture else facts.model_copy(update=_video_facts(probe(path)))
    except MediaError as error:
        return facts.model_copy(update={"error": str(error), "error_code": error.code})
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or error}"
        return facts.model_copy(update={"error": text, "error_code": UnreadableInputError.code})


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _video_facts(info: MediaInfo) -> dict[str, object]:
    video = info.video
    num_frames = video.num_frames_estimate
    projection: str = "" if video.spherical is None else video.spherical.projection
    if video.stereo is not None and video.stereo.layout != "mono":
        projection = video.stereo.layout
    return {
        "container": info.format_name,
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "bit_depth": video.bit_depth,
        "rate": float(video.rate),
        "num_frames": num_frames,
        "bits_per_pixel": bits_per_pixel(info),
        "pixel_shape": str(video.sample_aspect_ratio),
        "num_sizes": max(1, len(video.shapes)),
        "is_interlaced": video.is_interlaced,
        "is_hdr": video.color.is_hdr or video.dolby_vision_profile is not None,
        "has_transparency": video.has_transparency,
        "projection": projection,
        "tags": dict(info.metadata),
    }


def bits_per_pixel(info: MediaInfo) -> float | None:
    """Bits of the file that are not stated to be sound, per pixel and frame; None where the number of frames
    is not known."""
    video = info.video
    if not video.num_frames_estimate:
        return None
    seconds = video.num_frames_estimate / float(video.rate)
    sound = sum(stream.bit_rate or 0 for stream in info.audio) * seconds
    bits = max(0.0, 8 * info.size_bytes - sound)
    return bits / (video.num_frames_estimate * video.width * video.height)


def metadata_reasons(facts: SourceFacts, limits: MetadataLimits) -> list[Reason]:
    """Why a file is not worth reading; empty where it is."""
    return [Reason(step="metadata", code=code, text=text) for code, text in _problems(facts, limits)]


def _problems(facts: SourceFacts, limits: MetadataLimits) -> Iterator[tuple[str, str]]:
    if facts.error:
        yield facts.error_code, facts.error
        return
    if facts.is_picture:
        yield "still", "a still picture; pictures belong in the folder for pictures beside the videos"
        return
    side = min(facts.width, facts.height)
    if side < limits.min_side:
        yield "small", f"the shorter side has {side} pixels, at least {limits.min_side} are taken"
    if facts.num_frames is not None and facts.num_frames < limits.min_frames:
        yield "short", f"{facts.num_frames} frames, at least {limits.min_frames} are taken"
    lowest, highest = limits.rate
    if not lowest <= facts.rate <= highest:
        yield "rate", f"{facts.rate:.4g} frames per second, {lowest:g} to {highest:g} are taken"
    least = limits.bits_per_pixel.get(facts.codec, limits.bits_per_pixel.get("other", 0.0))
    if facts.bits_per_pixel is not None and facts.bits_per_pixel < least:
        yield (
            "bit_rate",
            f"{facts.bits_per_pixel:.3g} bits per pixel and frame of {facts.codec}, at least {least:g} are "
            "taken",
        )
    if facts.is_interlaced:
        yield "interlaced", "interlaced: half of every frame would be what a filter made up"
    if facts.is_hdr:
        yield (
            "hdr",
            "HDR (PQ, HLG or Dolby Vision), whose code values mean other light than those of all else",
        )
    if facts.has_transparency:
        yield "transparent", "transparent; what is seen depends on what it is laid over"
    if facts.projection:
        yield "projection", f"{facts.projection.replace('_', ' ')}: not a flat picture of one view"
    if facts.num_sizes > 1:
        yield "sizes", f"pictures of {facts.num_sizes} sizes, fitted into one"
    if facts.pixel_shape != "1":
        yield "pixel_shape", f"pixels of the shape {facts.pixel_shape}, square ones are taken"
