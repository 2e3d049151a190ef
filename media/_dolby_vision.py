"""The profile of Dolby Vision that a container states; PyAV does not pass it on.

The record is that of "Dolby Vision Streams Within the ISO Base Media File Format", section 2.2. Matroska
keeps the same in a BlockAdditionMapping, and a transport stream begins with the same in a descriptor of its
programme ("Dolby Vision Streams Within the MPEG-2 Transport Stream Format", section 3.3).
"""

from collections.abc import Iterator
from pathlib import Path

# A moov of a day has some megabytes; the record stands in its first track descriptions.
_MAX_BYTES = 4 << 20
_RECORD_NAMES = (b"dvcC", b"dvvC", b"dvwC")
_VERSIONS = (1, 2)
_MATROSKA_DATA = b"\x41\xed"
"""BlockAddIDExtraData; its length is one byte."""
_TS_REGISTRATION = b"\x05\x04DOVI"
_TS_DESCRIPTOR = b"\xb0"
_MAX_TS_DESCRIPTORS = 16


def read_profile(path: Path) -> int | None:
    """The profile in the head or the tail of a file; None where there is no record."""
    with path.open("rb") as file:
        head = file.read(_MAX_BYTES)
        size = file.seek(0, 2)
        file.seek(max(len(head), size - _MAX_BYTES))
        tail = file.read()
    found = find_profile(head)
    return found if found is not None else find_profile(tail)


def find_profile(data: bytes) -> int | None:
    """The profile of the first record in some bytes."""
    records = (record for record in _find_records(data) if len(record) == 4 and record[0] in _VERSIONS)
    return next((record[2] >> 1 for record in records), None)


def _find_records(data: bytes) -> Iterator[bytes]:
    """What may be records, or their first four bytes, of which the first is a version."""
    for name in _RECORD_NAMES:
        for at in _find_all(data, name):
            start = at + len(name)
            if data.startswith(_MATROSKA_DATA, start):
                start += len(_MATROSKA_DATA) + 1
            yield data[start : start + 4]
    for at in _find_all(data, _TS_REGISTRATION):
        # Descriptors follow each other: a tag, a length, and so many bytes.
        for _ in range(_MAX_TS_DESCRIPTORS):
            tag, length = data[at : at + 1], data[at + 1 : at + 2]
            if tag == _TS_DESCRIPTOR:
                yield data[at + 2 : at + 6]
            at += 2 + int.from_bytes(length)


def _find_all(data: bytes, wanted: bytes) -> Iterator[int]:
    """Where some bytes stand in others."""
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)
