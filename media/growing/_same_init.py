"""A digest of an init that is equal wherever samples of one file can stand behind the init of another."""

import hashlib
from collections.abc import Iterator, Sequence

from media.growing.boxes import Box, children, unpack

# Holders of other boxes on the way to those whose form depends on how late a segment begins.
_FOLDERS = frozenset(["moov", "trak", "edts", "mdia"])

# Where the times of a header box lie, after version and flags, in its short form and its long one: muxers
# write the long one from 2^31 ticks on.
_TIMES: dict[str, tuple[str, str]] = {
    "mvhd": ("II=I", "QQ=Q"),
    "mdhd": ("II=I", "QQ=Q"),
    "tkhd": ("II==I", "QQ==Q"),
}


def digest_of(init: bytes, boxes: Sequence[Box]) -> str:
    """A digest of the boxes, the same for both forms of headers with times, whatever times they say.

    Only udta, which names the program that wrote the file, does not count: a version of it is no reason to
    refuse a segment.
    """
    digest = hashlib.sha256()
    for box in boxes:
        for part in _parts(init, box):
            digest.update(part)
    return digest.hexdigest()[:32]


def _parts(init: bytes, box: Box) -> Iterator[bytes]:
    if box.kind == "udta":
        return
    if box.kind in _FOLDERS:
        yield box.kind.encode()
        for child in children(init, box):
            yield from _parts(init, child)
    elif box.kind in _TIMES:
        yield box.kind.encode() + _without_times(init, box)
    elif box.kind == "elst":
        yield _edits(init, box)
    else:
        yield init[box.offset : box.end]


def _without_times(init: bytes, box: Box) -> bytes:
    (version_and_flags,) = unpack("I", init, box)
    is_long = version_and_flags >> 24 == 1
    position = box.body + 4
    kept = init[box.body + 1 : position]
    for field in _TIMES[box.kind][is_long]:
        size = 8 if field == "Q" else 4
        if field == "=":
            kept += init[position : position + size]
        position += size
    return kept + init[position : box.end]


def _edits(init: bytes, box: Box) -> bytes:
    version_and_flags, count = unpack("II", init, box)
    entry, size = ("Qqhh", 20) if version_and_flags >> 24 == 1 else ("Iihh", 12)
    fields = [unpack(entry, init, box, 8 + size * number) for number in range(min(count, 2))]
    return f"elst {version_and_flags & 0xFFFFFF} {count} {fields}".encode()
