"""What a media file contains, as plain values: `probe` fills them, readers and writers take them."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

UNSPECIFIED = 2
"""The H.273 code point for "not said", the same for matrix, primaries and transfer."""

AlphaUse = Literal["straight", "premultiplied", "unused"]
"""What an alpha plane means: colours are to be multiplied by it, or are already, or nobody has filled it
in."""

TRANSPARENCY_WARNING = (
    "transparency is dropped; the picture is laid over black (ProRes in .mov, PNG and TIFF frames keep it)"
)

PROFILE_WITHOUT_BASE = 5
"""The profile of Dolby Vision whose pictures only a Dolby Vision player shows in the right colours."""

_PQ, _HLG = 16, 18


@dataclass(frozen=True)
class ColorTags:
    """How code values are to be understood: code points of ITU-T H.273, 2 where the file does not say."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is PQ (HDR10) or HLG."""
        return self.transfer in (_PQ, _HLG)


@dataclass(frozen=True)
class MasteringDisplay:
    """SMPTE ST 2086: the display a film was graded on. Chromaticities are CIE 1931 (x, y)."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white_point: tuple[Fraction, Fraction]
    min_luminance: Fraction
    """cd/m2"""
    max_luminance: Fraction
    """cd/m2"""


@dataclass(frozen=True)
class ContentLight:
    """CTA-861.3 light levels in cd/m2; 0 means unknown."""

    max_content: int
    """MaxCLL, the brightest pixel of the film."""
    max_average: int
    """MaxFALL, the brightest frame on average."""


Projection = Literal[
    "equirectangular",
    "cubemap",
    "equirectangular_tile",
    "half_equirectangular",
    "rectilinear",
    "fisheye",
    "other",
]
"""How a sphere lies on the picture; a tile is a part of an equirectangular one."""

StereoLayout = Literal["mono", "side_by_side", "top_bottom", "other"]
"""Where the two views lie in the picture."""


@dataclass(frozen=True, kw_only=True)
class SphericalMapping:
    """A picture that is a sphere around the viewer, or a part of one. Angles are turned in this order."""

    projection: Projection
    yaw_degrees: Fraction = Fraction(0)
    """[-180, 180], as the next two."""
    pitch_degrees: Fraction = Fraction(0)
    roll_degrees: Fraction = Fraction(0)
    bound_left: Fraction = Fraction(0)
    """Of a tile: what lies left of it on the whole sphere, as a share of that, in [0, 1)."""
    bound_top: Fraction = Fraction(0)
    bound_right: Fraction = Fraction(0)
    bound_bottom: Fraction = Fraction(0)
    padding: int = 0
    """Of a cubemap: pixels around each face."""


@dataclass(frozen=True, kw_only=True)
class StereoMapping:
    """A picture with one view for each eye."""

    layout: StereoLayout
    is_inverted: bool = False
    """Whether the right eye's view comes first."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a file whose time stamps count on without a break. Seconds as the file says them."""

    first_seconds: Fraction
    """Time of the first video packet, by which it is known again (see `media._time_line.packet_time`)."""
    begin_seconds: Fraction
    """When the first picture is shown."""
    end_seconds: Fraction
    """When the last picture ends."""
    position: int
    """Of the first video packet in the file, in bytes; 0 where that is not known."""
    shift_seconds: Fraction
    """What to add to time stamps of this part, of any stream, for one line through all parts."""


@dataclass(frozen=True, kw_only=True)
class PictureShape:
    """A size in which pictures of a stream come."""

    width: int
    height: int
    sample_aspect_ratio: Fraction


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Pixels at the edges of the stored picture that are not to be shown."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, kw_only=True)
class VideoStreamInfo:
    """The stream that will be read."""

    index: int
    """Position among all streams of the container."""
    codec: str
    """"h264", "hevc", "av1", ... : the codec, not the decoder in use."""
    width: int
    """Of the stored picture in pixels, cropped, before rotation and before the sample aspect ratio."""
    height: int
    pix_fmt: str
    bit_depth: int
    """Bits per colour component."""
    time_base: Fraction
    """Seconds per tick of the stream's time stamps."""
    rate: Fraction
    """Nominal frames per second. Frames may come at any time: only their pts are exact."""
    start_seconds: Fraction
    """When the first frame is shown, counted from the container's start."""
    duration_seconds: Fraction | None = None
    """As the container claims; None where it does not say."""
    num_frames_estimate: int | None = None
    """For progress only: a container counts hidden frames too, or has to guess."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a pixel divided by its height."""
    shapes: tuple[PictureShape, ...] = ()
    """All sizes of the pictures where there is more than one. `width` and `height` are the largest."""
    crop: Crop | None = None
    """What the container says to cut off; `width` and `height` are without it."""
    display_matrix: bytes | None = None
    """Nine int32 in machine byte order as FFmpeg stores them, or None for upright pictures."""
    rotation: int = 0
    """Counter-clockwise degrees by which a player turns the picture, in (-180, 180]; mirroring shows only in
    `display_matrix`."""
    is_untimed: bool = False
    """Whether all pictures have the same time stamp, which is none."""
    is_interlaced: bool = False
    """Whether any part of it is."""
    has_alpha: bool = False
    """Whether there is an alpha plane; `alpha` tells whether it means anything."""
    alpha: AlphaUse = "straight"
    color: ColorTags = field(default_factory=ColorTags)
    spherical: SphericalMapping | None = None
    """None for a flat picture."""
    stereo: StereoMapping | None = None
    has_captions: bool = False
    """Whether there are closed captions inside the video, as far as its first packets tell."""
    dolby_vision_profile: int | None = None
    """As the container states it."""
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None

    @property
    def has_transparency(self) -> bool:
        """Whether there is an alpha plane that means something."""
        return self.has_alpha and self.alpha != "unused"


@dataclass(frozen=True, kw_only=True)
class AudioStreamInfo:
    """A stream of sound."""

    index: int
    codec: str
    """"unknown" where there is no decoder."""
    sample_rate: int
    """Hz; 0 where the file does not say."""
    channels: int
    layout: str
    """"mono", "stereo", "5.1", ...; "3 channels" where only the number is known."""
    bit_rate: int | None = None
    language: str | None = None
    """ISO 639 code as stored, such as "eng"."""
    title: str | None = None
    disposition: tuple[str, ...] = ()
    """Names of the flags that are set, such as "default" or "forced"."""


@dataclass(frozen=True, kw_only=True)
class SubtitleStreamInfo:
    """A stream of subtitles, as text or as pictures."""

    index: int
    codec: str
    is_text: bool
    """Text can go into an MP4, pictures cannot."""
    language: str | None = None
    title: str | None = None
    disposition: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OtherStreamInfo:
    """A stream that is neither the chosen video nor sound nor subtitles."""

    index: int
    kind: Literal["video", "attached_picture", "data", "attachment", "unknown"]
    codec: str
    name: str | None = None
    """File name of an attachment, or the title of the stream."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A named part of the programme. Times count from the container's start."""

    start_seconds: Fraction
    end_seconds: Fraction
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """Everything known about an input before it is read. All times except `origin_seconds` count from it."""

    path: Path
    """Absolute."""
    format_name: str
    """FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
    size_bytes: int
    duration_seconds: Fraction | None
    """As the container claims; None where it does not say or cannot be right."""
    origin_seconds: Fraction
    """The first time stamp of video or sound, exact. Subtract it from every stream's time stamps."""
    video: VideoStreamInfo
    audio: tuple[AudioStreamInfo, ...] = ()
    subtitles: tuple[SubtitleStreamInfo, ...] = ()
    others: tuple[OtherStreamInfo, ...] = ()
    analysed_bytes: int | None = None
    """How far the file had to be read to know its streams; None where the first five megabytes are enough."""
    other_programmes: tuple[int, ...] = ()
    """Indexes of streams that belong to other programmes of a broadcast than the video."""
    stretches: tuple[Stretch, ...] = ()
    """Where time stamps break, the parts between; empty where they do not."""
    video_end_seconds: Fraction | None = None
    """When the last picture ends, measured; None where the file was not read to its end."""
    chapters: tuple[Chapter, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    """Title, artist, comment, ...; bytes that are not UTF-8 are replaced."""
    warnings: tuple[str, ...] = ()
    """What will be lost or guessed, in words for the user."""
