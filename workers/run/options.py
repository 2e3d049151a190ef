"""Options of one upscaling run."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from media import EncodeOptions
from media.sizes import SizeRequest
from workers.errors import InvalidRequestError
from workers.values import to_json_value

Existing = Literal["refuse", "overwrite", "resume"]


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What to make of a video.

    Attributes:
        size: Of the output.
        tile: Side of the transformer's tiles in output pixels; None leaves it to the planner, like the next
            three.
        overlap: Of tiles, in pixels.
        chunk: Frames that pass the model at once.
        chunk_overlap: Frames that neighbouring chunks share.
        start_seconds: Where in the source to begin; None is the start.
        duration_seconds: How much of it; None is all the rest.
        deinterlace: None where the stream says so.
        detect_cuts: Whether chunks end at scene cuts.
        video_stream: Index of the video stream to take; None chooses.
        keep_gaps: Whether long holes in the source's time stamps stay.
        force: Go on where the colours of the result will be wrong (Dolby Vision profile 5).
        encode: How the output is compressed.
        seed: For pipelines that draw noise. Each chunk draws its own, whatever came before it.
        segment_seconds: Length of the parts that survive an interruption.
        use_compare_video: Write a side-by-side video too: the source, interpolated, and the result.
        use_compare_image: Write a side-by-side picture of a frame in the middle too.
    """

    size: SizeRequest = field(default_factory=SizeRequest)
    tile: int | None = None
    overlap: int | None = None
    chunk: int | None = None
    chunk_overlap: int | None = None
    start_seconds: Fraction | None = None
    duration_seconds: Fraction | None = None
    deinterlace: bool | None = None
    detect_cuts: bool = True
    video_stream: int | None = None
    keep_gaps: bool = False
    force: bool = False
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    seed: int = 42
    segment_seconds: Fraction = Fraction(10)
    use_compare_video: bool = False
    use_compare_image: bool = False

    def __post_init__(self) -> None:
        if self.start_seconds is not None and self.start_seconds < 0:
            raise InvalidRequestError(f"start must not be negative, got {float(self.start_seconds):g} s")
        if self.duration_seconds is not None and self.duration_seconds <= 0:
            raise InvalidRequestError(f"duration must be above 0, got {float(self.duration_seconds):g} s")
        if self.video_stream is not None and self.video_stream < 0:
            raise InvalidRequestError(f"streams are counted from 0, got video stream {self.video_stream}")
        if self.segment_seconds <= 0:
            raise InvalidRequestError(
                f"segments must be longer than 0 s, got {float(self.segment_seconds):g} s"
            )
        if self.chunk is not None and self.chunk < 1:
            raise InvalidRequestError(f"a chunk has at least 1 frame, got {self.chunk}")
        if self.chunk_overlap is not None and self.chunk_overlap < 0:
            raise InvalidRequestError(f"chunk overlap must not be negative, got {self.chunk_overlap}")
        if self.tile is not None and self.tile < 0:
            raise InvalidRequestError(f"a tile has at least 1 pixel (0 for whole frames), got {self.tile}")
        if self.overlap is not None and self.overlap < 0:
            raise InvalidRequestError(f"tile overlap must not be negative, got {self.overlap}")

    def to_json(self) -> dict[str, Any]:
        """All options by name, nested ones with a dot in it."""
        values: dict[str, Any] = {}
        for name, value in to_json_value(self).items():
            if isinstance(value, dict):
                values |= {f"{name}.{inner}": item for inner, item in value.items()}
            else:
                values[name] = value
        return values
