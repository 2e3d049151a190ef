"""Closed captions into coded pictures: the user data units of H.264, H.265 and AV1. Pure.

PyAV cannot give an encoder side data with a frame, so they are added to what the encoder returns, which also
is the same for every encoder. What they hold: ATSC A/53 part 4, table 6.7 (`ATSC1_data`, `cc_data`), and SCTE
128-1, section 8.1 (https://www.scte.org/standards/library/) for where it stands in H.264.
"""

import re
from collections.abc import Iterator

from media._captions import CAPTION_IDENTIFIER, MAX_TRIPLETS, TRIPLET_BYTES

_START_CODE = b"\0\0\1"

# ITU-T T.35: the United States, and ATSC.
_PROVIDER = b"\xb5\x00\x31"
_REGISTERED_USER_DATA = 4  # payloadType of H.264 (D.1.1) and H.265 (D.2.1); metadata_type of AV1 alike
_HAS_CC_DATA = 0xC0  # a reserved bit and process_cc_data_flag; the count stands beside them

_H264_SEI, _H265_PREFIX_SEI = 6, 39  # nal_unit_type

_OBU_METADATA, _OBU_FRAME_HEADER, _OBU_FRAME = 5, 3, 6  # AV1, section 6.2.2
_OBU_HAS_SIZE, _OBU_HAS_EXTENSION = 0x02, 0x04


def add_captions(data: bytes, captions: bytes, codec: str) -> bytes:
    """One coded picture with captions.

    Args:
        data: As the encoder gives it: Annex B for H.264 and H.265, a temporal unit of AV1.
        captions: Triplets of A/53, at least one.
        codec: "h264", "h265" or "av1".

    Returns:
        The same with the captions in front of the picture's own data.

    Raises:
        ValueError: There is no picture in the data.
    """
    messages = list(_messages(captions))
    if codec == "av1":
        at = _first_shown_frame(data)
        units = b"".join(_metadata_obu(message) for message in messages)
    else:
        at = _first_slice(data, codec)
        units = _sei_unit(messages, data[at : at + 2], codec)
        # What follows needs a start code of four bytes only where it opens a picture or sets parameters.
        at -= 4 if data[at - 4 : at] == b"\0" + _START_CODE else 3
    return data[:at] + units + data[at:]


def _messages(captions: bytes) -> Iterator[bytes]:
    """Captions as messages of T.35, each with as many triplets as it may have."""
    step = MAX_TRIPLETS * TRIPLET_BYTES
    for start in range(0, len(captions), step):
        part = captions[start : start + step]
        head = bytes([_HAS_CC_DATA | len(part) // TRIPLET_BYTES, 0xFF])  # em_data
        yield _PROVIDER + CAPTION_IDENTIFIER + head + part + b"\xff"  # marker_bits


def _sei_unit(messages: list[bytes], slice_header: bytes, codec: str) -> bytes:
    """A NAL unit with its start code; of the layer and temporal layer of the slice behind it."""
    payload = b"".join(bytes([_REGISTERED_USER_DATA, len(message)]) + message for message in messages)
    # Two zeros and a byte below 4 would look like a start code (H.264 and H.265, 7.4.1).
    escaped = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", payload + b"\x80")
    if codec == "h264":
        header = bytes([_H264_SEI])
    else:
        header = bytes([_H265_PREFIX_SEI << 1 | slice_header[0] & 1, slice_header[1]])
    return b"\0" + _START_CODE + header + escaped


def _first_slice(data: bytes, codec: str) -> int:
    """Offset of the header of the first NAL unit that holds picture data."""
    at = data.find(_START_CODE) + len(_START_CODE)
    while len(_START_CODE) <= at < len(data):
        is_slice = 1 <= data[at] & 31 <= 5 if codec == "h264" else data[at] >> 1 & 63 < 32
        if is_slice:
            return at
        at = data.find(_START_CODE, at) + len(_START_CODE)
    raise ValueError("no slice in the coded picture")


def _metadata_obu(message: bytes) -> bytes:
    """An OBU of type metadata (AV1, section 5.8.1 and 5.8.2); its length fits one byte."""
    body = bytes([_REGISTERED_USER_DATA]) + message + b"\x80"
    return bytes([_OBU_METADATA << 3 | _OBU_HAS_SIZE, len(body)]) + body


def _first_shown_frame(data: bytes) -> int:
    """Offset of the OBU that begins the frame which is shown: a decoder gives the next frame what stands in
    front of it, hidden or not."""
    at = 0
    while at < len(data):
        header = data[at]
        size_at = at + (2 if header & _OBU_HAS_EXTENSION else 1)
        size, body = _leb128(data, size_at) if header & _OBU_HAS_SIZE else (len(data) - size_at, size_at)
        is_frame = header >> 3 & 15 in (_OBU_FRAME_HEADER, _OBU_FRAME)
        # show_existing_frame; frame_type in two bits; show_frame (section 5.9.2)
        if is_frame and body < len(data) and data[body] & 0b1001_0000:
            return at
        at = body + size
    raise ValueError("no frame in the temporal unit")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number and the offset behind it."""
    value = 0
    for count in range(8):
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if not byte & 0x80:
            return value, at + count + 1
    raise ValueError("a length of more than eight bytes")
