"""What to encode and how: the choices a caller makes, and the pure rules that turn them into encoder
settings."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from media._private_options import svtav1_options, x264_options, x265_options
from media._rgb_to_yuv import PLANE_LAYOUTS, ChromaSite, coded_size
from media.color import (
    BT470BG,
    BT709,
    BT2020,
    BT2020_CL,
    FCC,
    LUMA_COEFFICIENTS,
    RGB,
    SMPTE170M,
    SMPTE240M,
    default_matrix,
)
from media.errors import EncodeError
from media.info import ColorTags
from media.video_format import VideoFormat

# (primaries, transfer) that go with a matrix, for sources that tag neither.
_COMPANIONS = {
    BT709: (1, 1),
    FCC: (4, 6),
    BT470BG: (5, 6),
    SMPTE170M: (6, 6),
    SMPTE240M: (7, 7),
    BT2020: (9, 14),
}

Codec = Literal["h264", "h265", "av1"]

# A fixed number, not the machine's core count: x264 and x265 write other bytes with other thread counts,
# and a segment that is encoded again elsewhere must come out identical.
DEFAULT_NUM_THREADS = 4

_GOP_SECONDS = 2
_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


class _CodecTraits(NamedTuple):
    encoder: str
    default_crf: float
    max_crf: int
    default_preset: str
    presets: tuple[str, ...]
    pix_fmts: tuple[str, ...]
    min_side: int
    """Smallest width and height the encoder opens with."""


_TRAITS: dict[str, _CodecTraits] = {
    "h264": _CodecTraits("libx264", 18, 51, "veryfast", _X26X_PRESETS, tuple(PLANE_LAYOUTS), 2),
    "h265": _CodecTraits("libx265", 20, 51, "fast", _X26X_PRESETS, tuple(PLANE_LAYOUTS), 16),
    "av1": _CodecTraits(
        "libsvtav1", 25, 63, "8", tuple(str(n) for n in range(14)), ("yuv420p", "yuv420p10le"), 16
    ),
}


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """The caller's choices for the encoded video. None means the default of the codec or of the source."""

    codec: Codec = "h264"
    crf: float | None = None
    """Constant quality, lower is better: 0-51 for h264 (default 18) and h265 (20), whole numbers 0-63 for
    av1 (25; 25 looks about like 18 of h264). 0 is lossless in all three: the Y'CbCr planes come back bit
    for bit."""
    preset: str | None = None
    """"ultrafast" ... "placebo" for h264 (default "veryfast") and h265 ("fast"), "0" (slowest) ... "13" for
    av1 ("8")."""
    pix_fmt: str | None = None
    """"yuv420p", "yuv422p", "yuv444p" or the same with "10le"; av1 takes 4:2:0 only. Default: 4:2:0, 10
    bits when the source has more than 8 or is HDR."""
    num_threads: int = DEFAULT_NUM_THREADS
    """Encoder threads, at least 1. Part of the result: other counts give other (equally good) bytes."""

    def __post_init__(self) -> None:
        if self.codec not in _TRAITS:
            raise EncodeError(f"codec {self.codec!r} is not known; choose one of {', '.join(_TRAITS)}")
        traits = _TRAITS[self.codec]
        if self.crf is not None and not 0 <= self.crf <= traits.max_crf:
            raise EncodeError(f"crf {self.crf:g} is outside 0-{traits.max_crf}, the range of {self.codec}")
        if self.crf is not None and self.codec == "av1" and self.crf != int(self.crf):
            raise EncodeError(f"crf {self.crf:g} is not whole; av1 takes whole numbers 0-63")
        if self.preset is not None and self.preset not in traits.presets:
            raise EncodeError(
                f"preset {self.preset!r} is not one of {self.codec}'s: {', '.join(traits.presets)}"
            )
        if self.pix_fmt is not None and self.pix_fmt not in traits.pix_fmts:
            raise EncodeError(
                f"pix_fmt {self.pix_fmt!r} cannot be written as {self.codec}; "
                f"choose one of {', '.join(traits.pix_fmts)}"
            )
        if self.num_threads < 1:
            raise EncodeError(f"num_threads must be at least 1, got {self.num_threads}")


@dataclass(frozen=True, kw_only=True)
class ResolvedEncoding:
    """Encoder settings, complete: the same value gives the same bytes."""

    encoder: str
    """Name of the FFmpeg encoder."""
    pix_fmt: str
    width: int
    """Of the stored picture; up to one pixel more than the images (chroma needs whole samples)."""
    height: int
    color: ColorTags
    """Written into the stream and the container; always limited range, never "unspecified"."""
    chroma_site: ChromaSite
    gop_size: int
    """Frames from one keyframe to the next, at most."""
    num_threads: int
    codec_tag: str | None
    private_options: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def resolve_encoding(options: EncodeOptions, video_format: VideoFormat) -> ResolvedEncoding:
    """Decide every encoder setting.

    A source with more than 8 bits, or an HDR one (PQ or HLG), is written with 10 bits; HDR is never written
    with 8, where the steps of the curve would show as bands.

    Raises:
        EncodeError: An 8-bit pixel format was asked for an HDR source, or the picture is too small for the
        encoder.
    """
    traits = _TRAITS[options.codec]
    is_hdr = video_format.color.is_hdr
    pix_fmt = _choose_pix_fmt(options, video_format)
    layout = PLANE_LAYOUTS[pix_fmt]
    width, height = coded_size(video_format.width, video_format.height, pix_fmt)
    if min(width, height) < traits.min_side:
        raise EncodeError(
            f"{width}x{height} is too small for {options.codec}; the least side is {traits.min_side} pixels"
        )
    # BT.2100 puts 4:2:0 chroma on the top left luma sample, and HDR players follow the signalled position.
    # Everything else is left-sited, which is what players assume when a stream says nothing.
    chroma_site: ChromaSite = "topleft" if is_hdr and layout.vertical == 2 else "left"
    crf = traits.default_crf if options.crf is None else options.crf
    preset = options.preset or traits.default_preset
    builders = {"h264": x264_options, "h265": x265_options, "av1": svtav1_options}
    return ResolvedEncoding(
        encoder=traits.encoder,
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        color=output_color(video_format.color, width, height),
        chroma_site=chroma_site,
        gop_size=max(1, round(_GOP_SECONDS * video_format.rate)),
        num_threads=options.num_threads,
        # Apple players open "hvc1" (parameter sets in the header only) and refuse FFmpeg's default "hev1".
        codec_tag="hvc1" if options.codec == "h265" else None,
        private_options={
            "preset": preset,
            **builders[options.codec](crf, chroma_site, video_format, options.num_threads),
        },
        warnings=tuple(_warnings(options, video_format, pix_fmt)),
    )


def output_color(color: ColorTags, width: int, height: int) -> ColorTags:
    """The tags to write: every field set, a matrix we can compute, limited range.

    Players ignore the range flag often enough that full-range output would be shown with crushed blacks, so
    all output is limited. R'G'B' sources (matrix 0) have no matrix to keep and become BT.709;
    constant-luminance BT.2020 becomes the usual non-constant kind; an unspecified matrix is chosen by size,
    like players do.
    """
    matrix = color.matrix
    if matrix == BT2020_CL:
        matrix = BT2020
    elif matrix == RGB:
        matrix = BT709
    elif matrix not in LUMA_COEFFICIENTS:
        matrix = default_matrix(width, height)
    companions = _COMPANIONS[matrix]
    return ColorTags(
        matrix=matrix,
        primaries=companions[0] if color.primaries in (0, 2, 3) else color.primaries,
        transfer=companions[1] if color.transfer in (0, 2, 3) else color.transfer,
        full_range=False,
    )


def _choose_pix_fmt(options: EncodeOptions, video_format: VideoFormat) -> str:
    is_hdr = video_format.color.is_hdr
    if options.pix_fmt is None:
        return "yuv420p10le" if is_hdr or video_format.bit_depth > 8 else "yuv420p"
    if is_hdr and PLANE_LAYOUTS[options.pix_fmt].bit_depth == 8:
        raise EncodeError(
            f"pix_fmt {options.pix_fmt!r} has 8 bits and the source is HDR; "
            f"choose {options.pix_fmt}10le, or leave pix_fmt out"
        )
    return options.pix_fmt


def _warnings(options: EncodeOptions, video_format: VideoFormat, pix_fmt: str) -> list[str]:
    layout = PLANE_LAYOUTS[pix_fmt]
    width, height = coded_size(video_format.width, video_format.height, pix_fmt)
    found = []
    if (width, height) != (video_format.width, video_format.height):
        found.append(
            f"{video_format.width}x{video_format.height} is stored as {width}x{height}: "
            f"{pix_fmt} needs even sizes, so the last column or row is repeated"
        )
    if options.codec == "h264" and layout.bit_depth > 8:
        found.append("10-bit H.264 plays in few browsers and devices; h265 or av1 play more widely")
    elif options.codec == "h264" and options.crf == 0:
        found.append("lossless H.264 plays in few browsers and devices")
    if layout.horizontal == 1 or layout.vertical == 1:
        found.append(f"{pix_fmt} plays in software players only; 4:2:0 plays everywhere")
    if video_format.bit_depth > 8 and layout.bit_depth == 8:
        found.append(
            f"a {video_format.bit_depth}-bit source is written with 8 bits, as pix_fmt {pix_fmt} asks"
        )
    return found
