"""What the frames of a video to be written are: size, time, colour."""

from dataclasses import dataclass
from fractions import Fraction

from media.errors import EncodeError
from media.info import ColorTags, ContentLight, MasteringDisplay


@dataclass(frozen=True, kw_only=True)
class VideoFormat:
    """The video to be written: what the frames are, not how they are compressed."""

    width: int
    """Of the images, in pixels."""
    height: int
    time_base: Fraction
    """Seconds per tick of pts and duration."""
    rate: Fraction
    """Nominal frames per second; frames may come at any time."""
    color: ColorTags
    sample_aspect_ratio: Fraction = Fraction(1)
    display_matrix: bytes | None = None
    """Nine int32 in machine byte order as FFmpeg stores them, or None for upright pictures."""
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None
    bit_depth: int = 8
    """Of the source; more than 8 makes the default output 10 bits."""
    has_alpha: bool = False
    """Whether frames come with opacity, for outputs that have a place for it (`keeps_transparency`)."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise EncodeError(f"a video needs at least one pixel, got {self.width}x{self.height}")
        if self.time_base <= 0 or self.rate <= 0:
            raise EncodeError(f"time_base and rate must be positive, got {self.time_base} and {self.rate}")

    @property
    def has_static_metadata(self) -> bool:
        """Whether it is HDR and says what display it was graded on, or how bright it gets."""
        return self.color.is_hdr and (self.mastering_display is not None or self.content_light is not None)
