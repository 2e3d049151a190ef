"""The profile of Dolby Vision that a container states; PyAV does not pass it on.

The record is that of "Dolby Vision Streams Within the ISO Base Media File Format", section 2.2; Matroska
keeps the same in a BlockAdditionMapping.
"""

from pathlib import Path

# A moov of a day has some megabytes; the record stands in its first track descriptions.
_MAX_BYTES = 4 << 20
_RECORD_NAMES = (b"dvcC", b"dvvC", b"dvwC")
_VERSIONS = (1, 2)
_MATROSKA_DATA = b"\x41\xed"
"""BlockAddIDExtraData; its length is one byte."""


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
    for name in _RECORD_NAMES:
        at = data.find(name)
        while at >= 0:
            start = at + 4
            if data[start : start + 2] == _MATROSKA_DATA:
                start += 3
            record = data[start : start + 4]
            if len(record) == 4 and record[0] in _VERSIONS:
                return record[2] >> 1
            at = data.find(name, at + 1)
    return None
