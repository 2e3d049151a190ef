"""Encoders in graphics processors: what they can stand in for, and their options. Pure; nothing is opened.

The options are those of the encoders in av 18.1, which a test checks without a device. No encoder here was
run on hardware."""

from typing import Literal, NamedTuple

from media._codecs import PRESETS, Codec

HardwareFamily = Literal["nvenc", "qsv", "amf"]

_STEMS: dict[Codec, str] = {"h264": "h264", "h265": "hevc", "av1": "av1"}

_NVENC_PRESETS = ("p1", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p7", "p7")
_QSV_PRESETS = (
    "veryfast", "veryfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "veryslow",
)  # fmt: skip
_AMF_PRESETS = ("speed",) * 4 + ("balanced",) * 2 + ("quality",) * 4
_DEFAULT_PRESET = "medium"

_QSV_MAX_QUALITY = 51


class HardwareSettings(NamedTuple):
    """How a graphics processor encodes."""

    encoder: str
    pix_fmt: str
    """Of the frames that the encoder takes: the same samples, chroma interleaved."""
    private_options: dict[str, str]


def hardware_settings(
    family: HardwareFamily, codec: Codec, *, crf: float, preset: str | None, pix_fmt: str
) -> HardwareSettings:
    """The encoder of a family and its settings for what the software encoder would be given.

    Every one gives frames in the order they came, a keyframe where one is forced and no reference across
    it, as the segments need."""
    rank = PRESETS.index(preset or _DEFAULT_PRESET)
    builders = {"nvenc": _nvenc_options, "qsv": _qsv_options, "amf": _amf_options}
    return HardwareSettings(
        encoder=f"{_STEMS[codec]}_{family}",
        pix_fmt="nv12" if pix_fmt == "yuv420p" else "p010le",
        private_options={"bf": "0", **builders[family](codec, crf, rank)},
    )


def hardware_objection(*, codec: Codec, is_lossless: bool, preset: str | None, pix_fmt: str) -> str | None:
    """Why no graphics processor can make an output; None where one may."""
    if codec not in _STEMS:
        return f"codec {codec} is for software encoders"
    if is_lossless:
        return "lossless (crf 0) is for software encoders"
    if pix_fmt not in ("yuv420p", "yuv420p10le"):
        return f"pix_fmt {pix_fmt} is for software encoders"
    if codec == "h264" and pix_fmt != "yuv420p":
        return "H.264 with 10 bits is for software encoders"
    if preset is not None and preset not in PRESETS:
        return f"preset {preset} is SVT-AV1's; hardware takes ultrafast ... placebo"
    return None


def _nvenc_options(codec: Codec, crf: float, rank: int) -> dict[str, str]:
    # Constant quality: no target rate, so that b has to be 0 too.
    return {
        "preset": _NVENC_PRESETS[rank],
        "tune": "hq",
        "rc": "vbr",
        "cq": f"{crf:g}",
        "b": "0",
        "forced-idr": "1",
        "spatial-aq": "1",
    }


def _qsv_options(codec: Codec, crf: float, rank: int) -> dict[str, str]:
    # A global quality without a rate is "intelligent constant quality".
    return {
        "preset": _QSV_PRESETS[rank],
        "global_quality": str(min(max(1, round(crf)), _QSV_MAX_QUALITY)),
        "forced_idr": "1",
    }


def _amf_options(codec: Codec, crf: float, rank: int) -> dict[str, str]:
    # AV1's quantiser goes to 255 where crf goes to 63.
    quantizer = str(round(crf * 255 / 63) if codec == "av1" else round(crf))
    return {
        "usage": "high_quality",
        "quality": _AMF_PRESETS[rank],
        "rc": "cqp",
        "qp_i": quantizer,
        "qp_p": quantizer,
        "forced_idr": "1",
    }
