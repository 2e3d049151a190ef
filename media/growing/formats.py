"""What a track holds, read from its sample entry: the codec string of RFC 6381 and what playlists state."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from media.growing.boxes import Box, children, only, unpack
from media.growing.errors import MalformedSegmentError

# Bytes of a sample entry before the boxes in it.
_VIDEO_FIELDS, _AUDIO_FIELDS = 78, 28

_AAC_OBJECT = 0x40
_DESCRIPTOR_ES, _DESCRIPTOR_DECODER, _DESCRIPTOR_SPECIFIC = 3, 4, 5

VideoRange = Literal["SDR", "PQ", "HLG"]

_VIDEO_RANGES: dict[int, VideoRange] = {16: "PQ", 18: "HLG"}

# What a codec string without colour means: 4:2:0, BT.709, limited range (AV1 in ISOBMFF, section 5; VP in
# ISOBMFF, "Codecs Parameter String").
_AV1_DEFAULT_COLOR = "0.110.01.01.01.0"
_VP9_DEFAULT_COLOR = "01.01.01.01.00"


@dataclass(frozen=True, kw_only=True)
class TrackFormat:
    """A track's content. Fields that do not apply to its kind are 0."""

    kind: Literal["video", "audio"]
    codec: str
    """As in the CODECS attribute: "avc1.64001F", "hvc1.2.4.L93.90", "av01.0.04M.10", "mp4a.40.2"."""
    width: int = 0
    """Stored pixels."""
    height: int = 0
    video_range: VideoRange = "SDR"
    sample_rate: int = 0
    """Hz"""
    channels: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def read_format(data: bytes, entry: Box, kind: str) -> TrackFormat:
    """Describe a sample entry (a child of stsd).

    Args:
        data: The bytes that `entry` was found in.
        entry: The sample entry.
        kind: The handler's type, "vide" or "soun".

    Raises:
        MalformedSegmentError: The entry is damaged, or of a codec that segments never have.
    """
    if kind == "vide":
        return _read_video(data, entry)
    if kind == "soun":
        return _read_audio(data, entry)
    raise MalformedSegmentError(f"the track is of type {kind!r}, expected 'vide' or 'soun'")


def _read_video(data: bytes, entry: Box) -> TrackFormat:
    width, height = unpack("HH", data, entry, 24)
    boxes = children(data, entry, _VIDEO_FIELDS)
    color = _nclx(data, boxes)
    if entry.kind in ("avc1", "avc3"):
        codec = _avc_codec(data, entry.kind, only(boxes, "avcC"))
    elif entry.kind in ("hvc1", "hev1"):
        codec = _hevc_codec(data, entry.kind, only(boxes, "hvcC"))
    elif entry.kind == "av01":
        codec = _av1_codec(data, only(boxes, "av1C"), color)
    elif entry.kind == "vp09":
        codec = _vp9_codec(data, only(boxes, "vpcC"))
    else:
        raise MalformedSegmentError(
            f"video sample entry {entry.kind!r}, accepted are avc1, avc3, hvc1, hev1, av01 and vp09"
        )
    video_range: VideoRange = _VIDEO_RANGES.get(color[1], "SDR") if color else "SDR"
    return TrackFormat(kind="video", codec=codec, width=width, height=height, video_range=video_range)


def _nclx(data: bytes, boxes: list[Box]) -> tuple[int, int, int, int] | None:
    """Primaries, transfer, matrix and full range of the colr box, if there is one of that kind."""
    for box in boxes:
        if box.kind == "colr" and data[box.body : box.body + 4] == b"nclx":
            primaries, transfer, matrix, flags = unpack("HHHB", data, box, 4)
            return primaries, transfer, matrix, flags >> 7
    return None


def _avc_codec(data: bytes, kind: str, config: Box) -> str:
    _, profile, compatibility, level = unpack("4B", data, config)
    return f"{kind}.{profile:02X}{compatibility:02X}{level:02X}"


def _hevc_codec(data: bytes, kind: str, config: Box) -> str:
    """ISO/IEC 14496-15, annex E.3."""
    _, profile, compatibility, *constraints, level = unpack("BBI6BB", data, config)
    space = ("", "A", "B", "C")[profile >> 6]
    tier = "H" if profile & 0x20 else "L"
    reversed_flags = int(f"{compatibility:032b}"[::-1], 2)
    while constraints and constraints[-1] == 0:
        constraints.pop()
    parts = [kind, f"{space}{profile & 0x1F}", f"{reversed_flags:X}", f"{tier}{level}"]
    return ".".join(parts + [f"{constraint:X}" for constraint in constraints])


def _av1_codec(data: bytes, config: Box, color: tuple[int, int, int, int] | None) -> str:
    """AV1 Codec ISO Media File Format Binding, section 5."""
    _, profile_level, flags = unpack("3B", data, config)
    tier = "H" if flags & 0x80 else "M"
    bit_depth = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    codec = f"av01.{profile_level >> 5}.{profile_level & 0x1F:02}{tier}.{bit_depth:02}"
    if color is None:
        return codec
    is_420 = flags & 0x0C == 0x0C
    sampling = f"{flags >> 3 & 1}{flags >> 2 & 1}{flags & 3 if is_420 else 0}"
    primaries, transfer, matrix, full_range = color
    details = f"{flags >> 4 & 1}.{sampling}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range}"
    return codec if details == _AV1_DEFAULT_COLOR else f"{codec}.{details}"


def _vp9_codec(data: bytes, config: Box) -> str:
    """VP Codec ISO Media File Format Binding, https://www.webmproject.org/vp9/mp4/."""
    profile, level, format_, primaries, transfer, matrix = unpack("6B", data, config, 4)
    codec = f"vp09.{profile:02}.{level:02}.{format_ >> 4:02}"
    details = f"{format_ >> 1 & 7:02}.{primaries:02}.{transfer:02}.{matrix:02}.{format_ & 1:02}"
    return codec if details == _VP9_DEFAULT_COLOR else f"{codec}.{details}"


def _read_audio(data: bytes, entry: Box) -> TrackFormat:
    channels, _, _, _, rate = unpack("HHHHI", data, entry, 16)
    boxes = children(data, entry, _AUDIO_FIELDS)
    if entry.kind == "mp4a":
        codec = _mp4a_codec(data, only(boxes, "esds"))
    elif entry.kind in ("Opus", "fLaC"):
        codec = entry.kind
    else:
        raise MalformedSegmentError(f"audio sample entry {entry.kind!r}, accepted are mp4a, Opus and fLaC")
    return TrackFormat(kind="audio", codec=codec, sample_rate=rate >> 16, channels=channels)


def _mp4a_codec(data: bytes, esds: Box) -> str:
    """ISO/IEC 14496-1: descriptors inside descriptors, down to the audio object type."""
    content = data[esds.body + 4 : esds.end]
    es_body = _descriptor(content, _DESCRIPTOR_ES)
    if len(es_body) < 3 or es_body[2] & 0xE0:
        raise MalformedSegmentError("the esds box has fields that MP4 files do not use")
    decoder = _descriptor(es_body[3:], _DESCRIPTOR_DECODER)
    if not decoder:
        raise MalformedSegmentError("the esds box has an empty decoder description")
    if decoder[0] != _AAC_OBJECT:
        raise MalformedSegmentError(f"mp4a with object type {decoder[0]:#x}, accepted is AAC (0x40)")
    specific = _descriptor(decoder[13:], _DESCRIPTOR_SPECIFIC)
    if len(specific) < 2:
        raise MalformedSegmentError(f"the AAC settings have {len(specific)} bytes, at least 2 are needed")
    object_type = specific[0] >> 3
    if object_type == 31:  # an escape: six more bits follow
        object_type = 32 + ((specific[0] & 7) << 3 | specific[1] >> 5)
    return f"mp4a.40.{object_type}"


def _descriptor(content: bytes, tag: int) -> bytes:
    """The body of the descriptor that `content` begins with."""
    length = position = 0
    for position in range(1, 5):  # the length has one to four bytes of seven bits
        if position >= len(content):
            break
        length = length << 7 | content[position] & 0x7F
        if not content[position] & 0x80:
            break
    body = content[position + 1 : position + 1 + length]
    if not content or content[0] != tag or len(body) < length:
        raise MalformedSegmentError(f"the esds box has no whole descriptor {tag} where one is expected")
    return body
