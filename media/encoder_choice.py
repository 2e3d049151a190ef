"""Who encodes: software, or a graphics processor that was seen to do it."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

from media._encoder_trial import encoding_works
from media._encoders import SOFTWARE_ENCODERS, encoder_works
from media._hardware import HardwareFamily
from media.encoding import EncodeOptions, Encoder, ResolvedEncoding, hardware_candidates, resolve_encoding
from media.errors import EncoderUnavailableError
from media.video_format import VideoFormat

_DEVICES = Path("/dev")
# Without one of these there is nothing to try on Linux, which saves the seconds that a trial takes.
_LINUX_DEVICES: dict[HardwareFamily, tuple[str, ...]] = {
    "nvenc": ("nvidiactl", "dxg"),
    "qsv": ("dri/renderD*",),
    "amf": ("dri/renderD*",),
}


def pin_encoder(options: EncodeOptions, video_format: VideoFormat) -> EncodeOptions:
    """The options with `encoder` decided, so that all segments of a run have the same one.

    "auto" becomes the first hardware family that encodes a few frames with the very settings of this
    output, and software where none does or where software gives more: lossless, other chroma than 4:2:0,
    H.264 of 10 bits, HDR10's static metadata.

    Raises:
        EncoderUnavailableError: A family was asked for by name and does not work here.
        EncodeError: As `resolve_encoding`.
    """
    if options.encoder == "auto":
        for family in hardware_candidates(options, video_format):
            pinned = replace(options, encoder=family)
            encoding = resolve_encoding(pinned, video_format)
            if _has_device(family) and encoding_works(encoding, video_format.rate):
                return pinned
        return replace(options, encoder="software")
    require_encoding(resolve_encoding(options, video_format), video_format.rate)
    return options


def maker_of(encoder: str) -> Encoder:
    """The choice that leads to an encoder: "nvenc" for "hevc_nvenc", "software" for "libx265"."""
    makers = [family for family in get_args(HardwareFamily) if encoder.endswith(f"_{family}")]
    return makers[0] if makers else "software"


def require_encoding(encoding: ResolvedEncoding, rate: Fraction) -> None:
    """Check that an encoder works.

    Raises:
        EncoderUnavailableError: It does not; the message names those that do.
    """
    if encoding.encoder in SOFTWARE_ENCODERS:
        is_working = encoder_works(encoding.encoder)
    else:
        is_working = encoding_works(encoding, rate)
    if not is_working:
        available = [name for name in SOFTWARE_ENCODERS if encoder_works(name)]
        raise EncoderUnavailableError(
            f"encoder {encoding.encoder} does not work on this machine with {encoding.width}x"
            f"{encoding.height} {encoding.encoder_pix_fmt}; available: {', '.join(available) or 'none'}"
        )


def _has_device(family: HardwareFamily) -> bool:
    return sys.platform != "linux" or any(any(_DEVICES.glob(pattern)) for pattern in _LINUX_DEVICES[family])
