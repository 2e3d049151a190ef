"""Matroska without cues (recorded live, or cut off): a demuxer finds a place in it by reading all before.

Its clusters stand alone, though, with their own times. So a file that seems to have only its head and what
begins with some cluster is read from there as if from its start.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

from media._matroska import CLUSTER, SEGMENT, Element, children, read_element

_SEEK_HEAD, _SEEK, _SEEK_ID, _CUES = 0x114D9B74, 0x4DBB, 0x53AB, 0x1C53BB6B
_MAX_ELEMENTS = 1000
_MAX_SEEK_HEAD_BYTES = 1 << 16
# Muxers end a cluster after five megabytes; where one is longer, the file is read on instead.
_MAX_CLUSTER_BYTES = 16 << 20
_LOOK_BYTES = 1 << 16
_CLUSTER_MARK = CLUSTER.to_bytes(4, "big")


def find_gap(path: Path, position: int) -> tuple[int, int] | None:
    """The bytes that can be passed over on the way to a packet: from the first cluster to the packet's.

    Args:
        path: A Matroska file.
        position: Of the packet.

    Returns:
        Begin and end; None where the file has cues, or is not understood.
    """
    with path.open("rb") as file:
        begin = _first_cluster(file)
        end = None if begin is None else _cluster_of(file, position, after=begin)
    return None if begin is None or end is None else (begin, end)


def _first_cluster(file: BinaryIO) -> int | None:
    """None where there are cues."""
    position, end = 0, file.seek(0, io.SEEK_END)
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        element = read_element(file.read(12), position, end)
        if element is None or element.id == _CUES:
            return None
        if element.id == CLUSTER:
            return position
        if element.id == _SEEK_HEAD and _names_cues(file, element):
            return None
        position = element.start if element.id == SEGMENT else element.end
    return None


def _names_cues(file: BinaryIO, seek_head: Element) -> bool:
    file.seek(seek_head.start)
    body = file.read(min(seek_head.end - seek_head.start, _MAX_SEEK_HEAD_BYTES))
    return any(
        part.id == _SEEK_ID and body[part.start : part.end] == _CUES.to_bytes(4, "big")
        for seek in children(body, 0, len(body))
        if seek.id == _SEEK
        for part in children(body, seek.start, seek.end)
    )


def _cluster_of(file: BinaryIO, position: int, *, after: int) -> int | None:
    """Where the cluster begins that a block lies in."""
    size = file.seek(0, io.SEEK_END)
    end = position
    while end > max(after, position - _MAX_CLUSTER_BYTES):
        begin = max(after, end - _LOOK_BYTES)
        file.seek(begin)
        data = file.read(end - begin + len(_CLUSTER_MARK) - 1)
        at = data.rfind(_CLUSTER_MARK)
        while at >= 0:
            cluster = read_element(data[at : at + 12] or b"", begin + at, size)
            if cluster is not None and cluster.start <= position < cluster.end:
                return begin + at
            at = data.rfind(_CLUSTER_MARK, 0, at)
        end = begin
    return None


class ShortenedFile(io.RawIOBase):
    """A file as if a part of it were not there.

    Args:
        path: The file.
        gap: Begin and end of the part.
    """

    def __init__(self, path: Path, gap: tuple[int, int]) -> None:
        self.name = str(path)
        self._file = path.open("rb")
        self._begin, self._end = gap
        self._size = self._file.seek(0, io.SEEK_END) - (self._end - self._begin)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        is_head = self._position < self._begin
        self._file.seek(self._position if is_head else self._position + self._end - self._begin)
        length = min(len(buffer), self._begin - self._position) if is_head else len(buffer)
        data = self._file.read(length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = bases[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()
