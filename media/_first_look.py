"""The first picture of a stream, and what only a picture tells: format, colours, scan type, HDR metadata."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

from media._alpha import UNUSED_WARNING, judge_alpha
from media._captions import CAPTION_IDENTIFIER
from media._decoder import StreamDecoder, VideoPacket
from media._no_picture import explain_no_picture
from media._notes import Notes
from media._planar import (
    FrameToPlanar,
    Planar,
    check_readable,
    has_alpha,
    has_transparent_pixels,
    is_full_range,
)
from media._projections import read_spherical, read_stereo
from media.errors import InputLimitError, UnsupportedCodecError
from media.info import (
    TRANSPARENCY_WARNING,
    UNSPECIFIED,
    AlphaUse,
    ColorTags,
    ContentLight,
    MasteringDisplay,
    SphericalMapping,
    StereoMapping,
)
from media.limits import InputLimits

# Packets to try before a stream counts as undecodable. A recording that starts between keyframes has some
# hundred.
_MAX_PACKETS_TO_FIRST_FRAME = 3000

# Enough to see the usual distance of frames, whatever the first few are.
_RATE_PACKETS = 48

_PROGRESSIVE = 1

# AVMasteringDisplayMetadata: primaries R, G, B and white point as (x, y), least and greatest luminance, all
# rationals; then whether the primaries and the luminances were given.
_MASTERING_DISPLAY = struct.Struct("=20i2i")
_CONTENT_LIGHT = struct.Struct("=2I")
_MATRIX_BYTES = 36
_UPRIGHT = struct.pack("=9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


@dataclass
class _Seen:
    """Of the packets that were read."""

    pts: list[int] = field(default_factory=list)
    first_packet: bytes = b""
    has_captions: bool = False


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """What the first packets and the first picture of a stream tell."""

    width: int
    height: int
    pix_fmt: str
    bit_depth: int
    raw_pts: int | None
    """As the file says, the container's start not subtracted."""
    packet_pts: tuple[int, ...]
    """Time stamps of the first packets."""
    color: ColorTags
    display_matrix: bytes | None
    rotation: int
    is_interlaced: bool
    has_alpha: bool
    alpha: AlphaUse
    spherical: SphericalMapping | None
    stereo: StereoMapping | None
    has_captions: bool
    """In the first picture, or, as far as that can be seen in coded data, one of the first packets."""
    mastering_display: MasteringDisplay | None
    content_light: ContentLight | None
    warnings: tuple[str, ...]


def look(path: Path, index: int, *, limits: InputLimits) -> FirstLook:
    """Decode a stream's first picture.

    Raises:
        NoFramesError: There is none.
        UnsupportedCodecError: There is no decoder, or no way from its pixel format to R'G'B'.
        InputLimitError: The picture is too large.
    """
    notes = Notes()
    with StreamDecoder(path, index, num_threads=1, limits=limits, notes=notes) as decoder:
        seen = _Seen()
        packets = _recorded(decoder.packets(), seen)
        frames = decoder.decode(_at_most(packets, _MAX_PACKETS_TO_FIRST_FRAME))
        frame = next(frames, None)
        if frame is None:
            _refuse_unseen_size(path, decoder, limits)
            raise explain_no_picture(path, decoder, notes)
        check_size(path, frame.width, frame.height, limits)
        planar = _convert_once(path, frame, decoder.codec_name)
        alpha = _judge_alpha(path, planar, frames, decoder, seen)
        for _ in _at_most(packets, _RATE_PACKETS - len(seen.pts)):
            pass
        return _describe(planar, decoder, seen, alpha=alpha)


def check_size(path: Path, width: int, height: int, limits: InputLimits) -> None:
    """Refuse pictures with too many pixels.

    Raises:
        InputLimitError: They have.
    """
    if width * height > limits.max_pixels:
        raise InputLimitError(
            f"'{path.name}' is {width}x{height} ({width * height / 1e6:.1f} megapixels); at most "
            f"{limits.max_pixels / 1e6:.1f} megapixels are accepted, so scale it down first"
        )


def _judge_alpha(
    path: Path, first: Planar, later: Iterator[VideoFrame], decoder: StreamDecoder, seen: _Seen
) -> AlphaUse:
    videos = [stream.index for stream in decoder.container.streams.video]
    return judge_alpha(
        path,
        first,
        later,
        codec=decoder.codec_name,
        container=decoder.container.format.name,
        position=videos.index(decoder.stream.index),
        first_packet=seen.first_packet,
    )


def _describe(first: Planar, decoder: StreamDecoder, seen: _Seen, *, alpha: AlphaUse) -> FirstLook:
    frame = first.source
    side_data, layout, context = _side_data(frame), frame.format, decoder.stream.codec_context
    return FirstLook(
        width=frame.width,
        height=frame.height,
        pix_fmt=layout.name,
        # Screen formats with 5 or 6 bits are expanded to 8; half floats carry more than they say.
        bit_depth=min(16, max(8, *(component.bits for component in layout.components))),
        raw_pts=frame.pts,
        packet_pts=tuple(seen.pts),
        color=ColorTags(
            matrix=frame.colorspace,
            # A decoder of our choosing (see StreamDecoder) has not seen the container's tags.
            primaries=_first_specified(frame.color_primaries, context.color_primaries),
            transfer=_first_specified(frame.color_trc, context.color_trc),
            full_range=is_full_range(frame, decoder.codec_name),
        ),
        display_matrix=_display_matrix(frame, side_data),
        rotation=frame.rotation,
        is_interlaced=frame.interlaced_frame or context.field_order > _PROGRESSIVE,
        has_alpha=has_alpha(layout),
        alpha=alpha,
        spherical=read_spherical(side_data.get(Type.SPHERICAL.name)),
        stereo=read_stereo(side_data.get(Type.STEREO3D.name)),
        has_captions=Type.A53_CC.name in side_data or seen.has_captions,
        mastering_display=_mastering_display(side_data.get("MASTERING_DISPLAY_METADATA")),
        content_light=_content_light(side_data.get("CONTENT_LIGHT_LEVEL")),
        warnings=(*_warnings(side_data), *_alpha_warnings(first, alpha)),
    )


def _first_specified(*code_points: int) -> int:
    return next((code for code in code_points if code != UNSPECIFIED), UNSPECIFIED)


def _refuse_unseen_size(path: Path, decoder: StreamDecoder, limits: InputLimits) -> None:
    """GIF and PNG tell their size only when decoded, and then FFmpeg's answer is "invalid argument"."""
    is_size_unknown = decoder.stream.codec_context.width == 0
    if is_size_unknown and isinstance(decoder.first_error, av.error.ArgumentError):
        raise InputLimitError(
            f"'{path.name}' has pictures of more than the {limits.max_pixels / 1e6:.1f} megapixels that are "
            "accepted (or is damaged); scale it down first"
        )


def _convert_once(path: Path, frame: VideoFrame, codec: str) -> Planar:
    """Make sure that the pictures can be read, by reading this one."""
    converter = FrameToPlanar(frame.width, frame.height, codec=codec)
    try:
        planar = converter.convert(frame)
        check_readable(planar)
        return planar
    except (av.FFmpegError, ValueError, NotImplementedError) as error:
        raise UnsupportedCodecError(
            f"'{path.name}' has pictures in the pixel format {frame.format.name}, which cannot be turned "
            "into RGB; convert it to yuv420p first"
        ) from error


def _side_data(frame: VideoFrame) -> dict[str, bytes]:
    """A frame's side data by the name of its kind."""
    try:
        kinds = cast(Iterable[SideData], frame.side_data)  # the stubs know motion vectors only
        return {data.type.name: bytes(data) for data in kinds}
    except ValueError:
        # PyAV stops at a kind it has no name for, so what comes with it cannot be had one by one.
        return {}


def _display_matrix(frame: VideoFrame, side_data: dict[str, bytes]) -> bytes | None:
    matrix = side_data.get("DISPLAYMATRIX", b"")[:_MATRIX_BYTES]
    if len(matrix) == _MATRIX_BYTES:
        return None if matrix == _UPRIGHT else matrix
    return _rotation_matrix(frame.rotation) if frame.rotation else None


def _rotation_matrix(degrees: int) -> bytes:
    """Where the matrix itself could not be read: the quarter turn that is known, without mirroring."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0)}.get(degrees % 360, (0, -1))
    one = 1 << 16
    return struct.pack("=9i", cos * one, -sin * one, 0, sin * one, cos * one, 0, 0, 0, 1 << 30)


def _mastering_display(data: bytes | None) -> MasteringDisplay | None:
    if data is None or len(data) < _MASTERING_DISPLAY.size:
        return None
    *numbers, has_primaries, has_luminance = _MASTERING_DISPLAY.unpack_from(data)
    if not (has_primaries and has_luminance) or 0 in numbers[1::2]:
        return None
    values = [Fraction(*pair) for pair in zip(numbers[0::2], numbers[1::2], strict=True)]
    return MasteringDisplay(
        red=(values[0], values[1]),
        green=(values[2], values[3]),
        blue=(values[4], values[5]),
        white_point=(values[6], values[7]),
        min_luminance=values[8],
        max_luminance=values[9],
    )


def _content_light(data: bytes | None) -> ContentLight | None:
    if data is None or len(data) < _CONTENT_LIGHT.size:
        return None
    return ContentLight(*_CONTENT_LIGHT.unpack_from(data))


def _alpha_warnings(first: Planar, alpha: AlphaUse) -> Iterator[str]:
    if alpha == "unused":
        yield UNUSED_WARNING
    elif has_transparent_pixels(first):
        yield TRANSPARENCY_WARNING


def _warnings(side_data: dict[str, bytes]) -> Iterator[str]:
    if Type.DOVI_METADATA.name in side_data or Type.DOVI_RPU_BUFFER.name in side_data:
        yield "Dolby Vision metadata is dropped; the picture is kept as the HDR10, HLG or SDR it is based on"
    if Type.DYNAMIC_HDR_PLUS.name in side_data:
        yield "HDR10+ metadata is dropped; the picture is kept as HDR10"


def _recorded(packets: Iterator[VideoPacket], seen: _Seen) -> Iterator[VideoPacket]:
    for packet in packets:
        if packet.pts is not None:
            seen.pts.append(packet.pts)
        data = bytes(packet)
        seen.first_packet = seen.first_packet or data
        seen.has_captions = seen.has_captions or CAPTION_IDENTIFIER in data
        yield packet


def _at_most(packets: Iterator[VideoPacket], count: int) -> Iterator[VideoPacket]:
    for _ in range(count):
        packet = next(packets, None)
        if packet is None:
            return
        yield packet
