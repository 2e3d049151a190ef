"""What to encode and how: the choices a caller makes, and the pure rules that turn them into encoder
settings."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from media._codecs import (
    TRAITS,
    WHOLE_CRF,
    Codec,
    CodecChoice,
    choose_codec,
    matching_crf,
)
from media._encoding_warnings import encoding_warnings
from media._hardware import HardwareFamily, hardware_objection, hardware_settings
from media._plane_layouts import RGB_LAYOUTS, WITH_ALPHA, ChromaSite, coded_size, layout_of
from media._private_options import software_options
from media.color import RGB, output_color
from media.errors import EncodeError
from media.info import ColorTags
from media.video_format import VideoFormat

Encoder = Literal["auto", "software", "nvenc", "qsv", "amf"]

# A fixed number, not the machine's core count: x264 and x265 write other bytes with other thread counts,
# and a segment that is encoded again elsewhere must come out identical.
DEFAULT_NUM_THREADS = 4

_GOP_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """The caller's choices for the encoded video. None means the default of the codec or of the source."""

    codec: CodecChoice = "auto"
    """"auto" is h264 up to 4096x2304, which hardware plays; h265 up to 8192x4320; av1 above."""
    crf: float | None = None
    """Constant quality, lower is better: 0-51 for h264 (default 18) and h265 (20), whole numbers 0-63 for
    av1 (25; 25 looks about like 18 of h264) and vp9 (27, likewise). 0 is lossless in all four: the Y'CbCr
    planes come back bit for bit. With the codec "auto" it is h264's, and another codec gets what
    looks about like it."""
    preset: str | None = None
    """"ultrafast" ... "placebo", in each encoder's own terms (default "veryfast" for h264, "fast" for h265);
    also "0" (slowest) ... "13" for av1 ("8") and "0" ... "5" for vp9 ("2")."""
    pix_fmt: str | None = None
    """"yuv420p", "yuv422p", "yuv444p" or the same with "10le"; av1 takes 4:2:0 only, vp9 8 bits only.
    Default: 4:2:0, 10 bits when the source has more than 8 or is HDR. ProRes takes "yuv422p10le" (default)
    and "yuv444p10le" (default where the frames have alpha)."""
    encoder: Encoder = "software"
    """Who encodes. "auto" is what works of nvenc, qsv and amf; `pin_encoder` finds out, and until then it is
    software, like for all that hardware does not do as well."""
    keep_matrix: bool = False
    """Keep the matrix of standard definition in an output of HD size, where players assume BT.709."""
    num_threads: int = DEFAULT_NUM_THREADS
    """Encoder threads, at least 1. Part of the result: other counts give other (equally good) bytes."""

    def __post_init__(self) -> None:
        if self.codec != "auto" and self.codec not in TRAITS:
            raise EncodeError(f"codec {self.codec!r} is not known; choose one of auto, {', '.join(TRAITS)}")
        if self.encoder not in get_args(Encoder):
            raise EncodeError(
                f"encoder {self.encoder!r} is not known; choose one of {', '.join(get_args(Encoder))}"
            )
        traits = TRAITS["h264" if self.codec == "auto" else self.codec]
        if self.crf is not None and not 0 <= self.crf <= traits.max_crf:
            raise EncodeError(f"crf {self.crf:g} is outside 0-{traits.max_crf}, the range of {traits.name}")
        if self.crf is not None and self.codec in WHOLE_CRF and self.crf != int(self.crf):
            raise EncodeError(f"crf {self.crf:g} is not whole; {self.codec} takes whole numbers 0-63")
        if self.preset is not None and self.preset not in traits.presets:
            raise EncodeError(
                f"preset {self.preset!r} is not one of {traits.name}'s: {', '.join(traits.presets)}"
            )
        if self.pix_fmt is not None and self.pix_fmt not in traits.pix_fmts:
            raise EncodeError(
                f"pix_fmt {self.pix_fmt!r} cannot be written as {traits.name}; "
                f"choose one of {', '.join(traits.pix_fmts)}"
            )
        if self.encoder in get_args(HardwareFamily):
            # The source's bits decide the rest.
            codec: Codec = "h265" if self.codec == "auto" else self.codec
            _refuse_what_hardware_cannot(self, codec, self.pix_fmt or "yuv420p")
        if self.num_threads < 1:
            raise EncodeError(f"num_threads must be at least 1, got {self.num_threads}")


@dataclass(frozen=True, kw_only=True)
class ResolvedEncoding:
    """Encoder settings, complete: the same value gives the same bytes."""

    codec: Codec
    encoder: str
    """Name of the FFmpeg encoder."""
    pix_fmt: str
    """Of the samples that are computed."""
    encoder_pix_fmt: str
    """As the encoder takes them: the same samples, perhaps in other planes."""
    use_dither: bool
    """Whether luma is dithered instead of rounded."""
    width: int
    """Of the stored picture; up to one pixel more than the images (chroma needs whole samples)."""
    height: int
    color: ColorTags
    """Written into the stream and the container, never "unspecified"; Y'CbCr always has limited range."""
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
        EncodeError: An 8-bit pixel format or codec was asked for an HDR source, or the picture is too small
        for the encoder.
    """
    pix_fmt = _choose_pix_fmt(options, video_format)
    width, height = coded_size(video_format.width, video_format.height, pix_fmt)
    codec = choose_codec(options.codec, width=width, height=height, pix_fmt=pix_fmt)
    traits = TRAITS[codec]
    if min(width, height) < traits.min_side:
        raise EncodeError(
            f"{width}x{height} is too small for {codec}; sides have {traits.min_side} pixels or more"
        )
    crf = matching_crf(options.crf, wanted=options.codec, chosen=codec)
    chroma_site = _choose_chroma_site(options, video_format, pix_fmt)
    if options.encoder == "auto" or options.encoder == "software":
        encoder, encoder_pix_fmt = traits.encoder, pix_fmt
        private_options = software_options(
            codec, options.preset, crf, chroma_site, video_format, options.num_threads, pix_fmt
        )
    else:
        _refuse_what_hardware_cannot(options, codec, pix_fmt)
        encoder, encoder_pix_fmt, private_options = hardware_settings(
            options.encoder, codec, crf=crf, preset=options.preset, pix_fmt=pix_fmt
        )
    return ResolvedEncoding(
        codec=codec,
        encoder=encoder,
        pix_fmt=pix_fmt,
        encoder_pix_fmt=encoder_pix_fmt,
        use_dither=layout_of(pix_fmt).bit_depth == 8 and pix_fmt not in RGB_LAYOUTS,
        width=width,
        height=height,
        color=_color(options, video_format, pix_fmt),
        chroma_site=chroma_site,
        gop_size=max(1, round(_GOP_SECONDS * video_format.rate)),
        num_threads=options.num_threads,
        # Apple players open "hvc1" (parameter sets in the header only) and refuse FFmpeg's default "hev1".
        codec_tag="hvc1" if codec == "h265" else None,
        private_options=private_options,
        warnings=tuple(
            encoding_warnings(
                video_format,
                wanted=options.codec,
                codec=codec,
                pix_fmt=pix_fmt,
                is_lossless=options.crf == 0,
                is_hardware=options.encoder not in ("auto", "software"),
            )
        ),
    )


def decided_crf(options: EncodeOptions, encoding: ResolvedEncoding) -> float:
    """The constant quality of an encoding, in the terms of its codec."""
    return matching_crf(options.crf, wanted=options.codec, chosen=encoding.codec)


def _color(options: EncodeOptions, video_format: VideoFormat, pix_fmt: str) -> ColorTags:
    width, height = coded_size(video_format.width, video_format.height, pix_fmt)
    color = output_color(video_format.color, width, height, keep_matrix=options.keep_matrix)
    return replace(color, matrix=RGB, full_range=True) if pix_fmt in RGB_LAYOUTS else color


def hardware_candidates(options: EncodeOptions, video_format: VideoFormat) -> tuple[HardwareFamily, ...]:
    """Which families may encode in place of software, the likeliest first: none where the result would lack
    something.

    Raises:
        EncodeError: As `resolve_encoding`.
    """
    if options.encoder == "software":
        return ()
    if options.encoder != "auto":
        return (options.encoder,)
    software = resolve_encoding(options, video_format)
    objection = hardware_objection(
        codec=software.codec,
        is_lossless=options.crf == 0,
        preset=options.preset,
        pix_fmt=software.pix_fmt,
    )
    return () if objection or video_format.has_static_metadata else get_args(HardwareFamily)


def keeps_transparency(options: EncodeOptions) -> bool:
    """Whether the output has a place for opacity: ProRes 4444, which is also what a transparent source
    becomes where no `pix_fmt` is named, and pictures."""
    return options.codec in ("prores", "png", "tiff") and (
        options.pix_fmt is None or options.pix_fmt in WITH_ALPHA
    )


def _choose_pix_fmt(options: EncodeOptions, video_format: VideoFormat) -> str:
    is_hdr = video_format.color.is_hdr
    is_deep = is_hdr or video_format.bit_depth > 8
    if options.pix_fmt is None and options.codec in ("prores", "png", "tiff"):
        formats = TRAITS[options.codec].pix_fmts
        takes_last = video_format.has_alpha if options.codec == "prores" else is_deep
        return _with_alpha(formats[-1 if takes_last else 0], video_format)
    if options.codec == "vp9" and is_hdr:
        raise EncodeError("vp9 is written with 8 bits and the source is HDR; choose av1 or h265")
    if options.pix_fmt is None:
        is_10_bits = is_deep and options.codec != "vp9"
        return _with_alpha("yuv420p10le" if is_10_bits else "yuv420p", video_format)
    if is_hdr and layout_of(options.pix_fmt).bit_depth == 8:
        raise EncodeError(
            f"pix_fmt {options.pix_fmt!r} has 8 bits and the source is HDR; "
            f"choose {options.pix_fmt}10le, or leave pix_fmt out"
        )
    return _with_alpha(options.pix_fmt, video_format)


def _with_alpha(pix_fmt: str, video_format: VideoFormat) -> str:
    if not video_format.has_alpha:
        return pix_fmt
    if pix_fmt not in WITH_ALPHA:
        raise EncodeError(
            f"pix_fmt {pix_fmt} has no place for transparency; choose one of {', '.join(WITH_ALPHA)}"
        )
    return WITH_ALPHA[pix_fmt]


def _choose_chroma_site(options: EncodeOptions, video_format: VideoFormat, pix_fmt: str) -> ChromaSite:
    """BT.2100 puts 4:2:0 chroma on the top left luma sample, and HDR players follow the signalled position.
    Everything else is left-sited, which is what players assume when a stream says nothing, as hardware's
    do."""
    is_signalled = options.encoder in ("auto", "software")
    is_topleft = video_format.color.is_hdr and layout_of(pix_fmt).vertical == 2
    return "topleft" if is_topleft and is_signalled else "left"


def _refuse_what_hardware_cannot(options: EncodeOptions, codec: Codec, pix_fmt: str) -> None:
    objection = hardware_objection(
        codec=codec, is_lossless=options.crf == 0, preset=options.preset, pix_fmt=pix_fmt
    )
    if objection:
        raise EncodeError(f"encoder {options.encoder} cannot do this: {objection}")
