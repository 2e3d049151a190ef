"""What is known of sources and scenes. Kept as JSON, so that an interrupted build goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.yaml_files import StrictModel


class SourceFacts(StrictModel):
    """What can be said of a file before it is read. Of what is no video, those fields are 0 or empty."""

    path: str
    """Absolute."""
    size_bytes: int = 0
    modified_ns: int = 0
    sha256: str = ""
    """Of the content; empty where it cannot be read."""
    is_picture: bool = False
    """Whether it is called like a still picture."""
    error: str = ""
    """Why it cannot be read."""
    error_code: str = ""
    container: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    bit_depth: int = 0
    rate: float = 0.0
    num_frames: int | None = None
    """As the container says; None where it does not."""
    bits_per_pixel: float | None = None
    """Of the video, per pixel and frame; None where the number of frames is not known."""
    pixel_shape: str = "1"
    """Width of a pixel divided by its height."""
    num_sizes: int = 1
    """In how many sizes pictures come."""
    is_interlaced: bool = False
    is_hdr: bool = False
    has_transparency: bool = False
    projection: str = ""
    """Where the picture is a sphere, or has a view for each eye."""
    tags: Mapping[str, str] = {}
    """What the file says of itself: title, artist, copyright, date, ..."""


class Box(StrictModel):
    """A part of the picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


class SceneMeasures(StrictModel):
    """What was measured of a part of a scene. Means over the frames that were looked at."""

    contrast: float
    sharpness: float
    fine_detail: float
    blockiness: float
    noise: float
    uneven: float
    """Share of frames whose duration is off by more than half a frame."""
    repeated: float
    """Share of frames that repeat the one before."""
    motion: float
    """Mean length of the flow, pixels per frame."""
    peak_motion: float
    """What a twentieth of the picture exceeds."""


class ScenePart(StrictModel):
    """A candidate for a clip: consecutive frames between two cuts."""

    scene: int
    """Counted from 1 in the order of the film."""
    part: int
    num_parts: int
    first_frame: int
    num_frames: int
    pts: int
    """Of the first frame, in ticks of the reader."""
    start_seconds: float
    measures: SceneMeasures | None = None
    """None where it is too short to be measured."""
    moving: Box | None = None
    """What moves, without padding; None where nothing does."""
    picture: Box | None = None
    """The picture without black bars."""


class Examination(StrictModel):
    """What reading a file told."""

    version: Literal[1] = 1
    """Another wherever what is measured changes; such records are not read."""
    facts: SourceFacts
    measured_with: Mapping[str, float]
    """Limits that measuring depends on."""
    error: str = ""
    """Why reading ended early."""
    warnings: tuple[str, ...] = ()
    """What the reader had to repair."""
    num_frames: int = 0
    parts: tuple[ScenePart, ...] = ()


class Reason(StrictModel):
    """Why something was dropped."""

    step: Literal["metadata", "reading", "scenes", "quality", "motion", "writing"]
    code: str
    """Stable."""
    text: str
    """For people: what was found, and what is accepted."""
