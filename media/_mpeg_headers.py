"""What MPEG-1 and MPEG-2 video says of itself between start codes (ISO/IEC 13818-2, section 6.2)."""

from collections.abc import Iterator

_START_CODE = b"\x00\x00\x01"
_SEQUENCE, _EXTENSION = 0xB3, 0xB5
_SEQUENCE_EXTENSION, _PICTURE_EXTENSION = 1, 8

# The picture's own header stands in front of its slices, behind those of sequence and group.
_MAX_HEADER_BYTES = 1024


def start_code_units(data: bytes) -> Iterator[bytes]:
    """What stands behind each start code, the code's last byte first."""
    return (unit for unit in data.split(_START_CODE)[1:] if unit)


def is_interlaced_picture(data: bytes) -> bool:
    """Whether a packet's picture says that it is not progressive."""
    return any(len(unit) > 5 and not unit[5] & 0x80 for unit in _extensions(data, _PICTURE_EXTENSION))


def sequence_geometry(data: bytes) -> tuple[bytes, bool] | None:
    """The size in the form it is stored, and whether all is progressive; None where a packet begins no
    sequence."""
    head = data[:_MAX_HEADER_BYTES]
    size = next((unit[1:4] for unit in start_code_units(head) if unit[0] == _SEQUENCE), None)
    if size is None:
        return None
    return size, any(len(unit) > 2 and unit[2] & 0x08 for unit in _extensions(head, _SEQUENCE_EXTENSION))


def _extensions(data: bytes, kind: int) -> Iterator[bytes]:
    for unit in start_code_units(data[:_MAX_HEADER_BYTES]):
        if unit[0] == _EXTENSION and len(unit) > 1 and unit[1] >> 4 == kind:
            yield unit
