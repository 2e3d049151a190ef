"""The video codecs of outputs: what they take, and which one a size calls for."""

from typing import Literal, NamedTuple

from media._plane_layouts import PLANE_LAYOUTS

Codec = Literal["h264", "h265", "av1", "vp9", "prores", "png", "tiff"]
CodecChoice = Literal["auto", "h264", "h265", "av1", "vp9", "prores", "png", "tiff"]

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
"""x264's names, which every encoder is told in its own words."""

_SVTAV1_NUMBERS = tuple(str(number) for number in range(14))

# Those of about the speed that x265 has with the name.
_SVTAV1_PRESETS = dict(zip(PRESETS, ("12", "11", "10", "9", "8", "7", "5", "4", "2", "0"), strict=True))

# What libvpx calls cpu-used; above 5 are speeds for live encoding. 3 and 4 encode the pattern that luma is
# dithered with away: gradients have bands (runs of one code of 15 and 24 pixels, not 3).
_LIBVPX_NUMBERS = tuple(str(number) for number in range(6))
_LIBVPX_PRESETS = dict(zip(PRESETS, ("5", "5", "5", "5", "5", "2", "1", "1", "0", "0"), strict=True))

_PRESET_NUMBERS: dict[Codec, dict[str, str]] = {"av1": _SVTAV1_PRESETS, "vp9": _LIBVPX_PRESETS}

# Long and short side of the largest picture that hardware decodes. H.264: level 5.2, and what decoders of all
# makers stop at. H.265 and VP9: level 6.2.
_LARGEST: dict[Codec, tuple[int, int]] = {"h264": (4096, 2304), "h265": (8192, 4320), "vp9": (8192, 4320)}
_SVTAV1_LARGEST = (16384, 8704)  # width and height that the library opens with


class CodecTraits(NamedTuple):
    """What a codec takes, and its usual encoder."""

    encoder: str
    name: str
    """As people write it."""
    default_crf: int
    max_crf: int
    default_preset: str
    presets: tuple[str, ...]
    pix_fmts: tuple[str, ...]
    min_side: int
    """Smallest width and height the encoder opens with."""
    segment_muxer: str = "mp4"
    """Of the segments; MOV takes what MP4 has no place for."""


TRAITS: dict[Codec, CodecTraits] = {
    "h264": CodecTraits("libx264", "H.264", 18, 51, "veryfast", PRESETS, tuple(PLANE_LAYOUTS), 2),
    "h265": CodecTraits("libx265", "H.265", 20, 51, "fast", PRESETS, tuple(PLANE_LAYOUTS), 16),
    "av1": CodecTraits(
        "libsvtav1", "AV1", 25, 63, "8", PRESETS + _SVTAV1_NUMBERS, ("yuv420p", "yuv420p10le"), 16
    ),
    # The wheel's libvpx is built without the profiles of more than 8 bits.
    "vp9": CodecTraits(
        "libvpx-vp9", "VP9", 27, 63, "2", PRESETS + _LIBVPX_NUMBERS, ("yuv420p", "yuv422p", "yuv444p"), 2
    ),
    # Every frame by itself, with one quality: 422 HQ, and 4444 for what has full colour.
    "prores": CodecTraits("prores_ks", "ProRes", 0, 0, "", (), ("yuv422p10le", "yuv444p10le"), 16, "mov"),
    # Frames that become files of their own.
    "png": CodecTraits("png", "PNG", 0, 0, "", (), ("rgb24", "rgb48be"), 1, "mov"),
    "tiff": CodecTraits("tiff", "TIFF", 0, 0, "", (), ("rgb48le",), 1, "mov"),
}

WHOLE_CRF: frozenset[Codec] = frozenset({"av1", "vp9"})
"""Codecs whose encoders take whole numbers."""


def choose_codec(wanted: CodecChoice, *, width: int, height: int, pix_fmt: str) -> Codec:
    """The codec of an output: where none is named, H.264 up to 4096x2304, H.265 up to 8192x4320, AV1 above.

    Args:
        wanted: What was asked for.
        width: Of the stored picture; portrait counts like landscape.
        height: Of the stored picture.
        pix_fmt: Of the stored picture. What AV1 cannot store stays H.265.
    """
    if wanted != "auto":
        return wanted
    if _fits(width, height, "h264"):
        return "h264"
    is_av1_possible = (
        pix_fmt in TRAITS["av1"].pix_fmts and width <= _SVTAV1_LARGEST[0] and height <= _SVTAV1_LARGEST[1]
    )
    return "h265" if _fits(width, height, "h265") or not is_av1_possible else "av1"


def size_warnings(wanted: CodecChoice, chosen: Codec, *, width: int, height: int) -> list[str]:
    """What to say of a codec that the size has decided, or that the size does not suit."""
    if wanted == "auto" and chosen != "h264":
        skipped: Codec = "h264" if chosen == "h265" else "h265"
        limit = "{}x{}".format(*_LARGEST[skipped])
        return [
            f"{width}x{height} is written as {TRAITS[chosen].name}, since no hardware plays "
            f"{TRAITS[skipped].name} above {limit}; codec {skipped} overrides this"
        ]
    if wanted == "auto" or _fits(width, height, wanted):
        return []
    better = choose_codec("auto", width=width, height=height, pix_fmt="yuv420p")
    limit = "{}x{}".format(*_LARGEST[wanted])
    advice = f"; {better} plays more widely" if better != wanted else ""
    return [f"{TRAITS[wanted].name} of {width}x{height} plays in no hardware, which ends at {limit}{advice}"]


def matching_crf(crf: float | None, *, wanted: CodecChoice, chosen: Codec) -> float:
    """The quality to encode with. One given without a codec is H.264's, and others get the value that looks
    about the same; 0 is lossless everywhere."""
    traits = TRAITS[chosen]
    if crf is None:
        return traits.default_crf
    if wanted != "auto" or crf == 0:
        return crf
    matched = min(crf + traits.default_crf - TRAITS["h264"].default_crf, traits.max_crf)
    return round(matched) if chosen in WHOLE_CRF else matched


def software_preset(preset: str | None, codec: Codec) -> str:
    """The preset as the codec's software encoder takes it."""
    chosen = preset or TRAITS[codec].default_preset
    return _PRESET_NUMBERS.get(codec, {}).get(chosen, chosen)


def _fits(width: int, height: int, codec: Codec) -> bool:
    if codec not in _LARGEST:
        return True
    long_side, short_side = _LARGEST[codec]
    return max(width, height) <= long_side and min(width, height) <= short_side
