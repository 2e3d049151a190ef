"""The programmes of an MPEG transport stream: which streams belong together. PyAV does not tell.

Read from the program association table and the program map tables (ISO/IEC 13818-1, section 2.4.4).
"""

from collections.abc import Iterator
from pathlib import Path

# Tables are repeated every 0.1 to 0.5 s; a broadcast multiplex of 60 Mb/s sends 4 MB in that time.
_MAX_BYTES = 8 << 20

_SYNC = 0x47
_PACKET_SIZES = (188, 192, 204)
"""Plain, with the time codes of Blu-ray and cameras, with error correction."""
_PAYLOAD = 188
_PAT_PID = 0
_PAT_TABLE, _PMT_TABLE = 0, 2


def read_programmes(path: Path) -> dict[int, set[int]]:
    """The packet ids of each programme's streams, by the programme's number; empty where nothing is found."""
    with path.open("rb") as file:
        return parse_programmes(file.read(_MAX_BYTES))


def parse_programmes(data: bytes) -> dict[int, set[int]]:
    """As `read_programmes`, of the head of a file."""
    map_pids: dict[int, int] = {}
    programmes: dict[int, set[int]] = {}
    for pid, section in _sections(data, map_pids):
        if pid == _PAT_PID and section[0] == _PAT_TABLE:
            map_pids.update(_read_association(section))
        elif pid in map_pids and section[0] == _PMT_TABLE:
            programmes.setdefault(map_pids[pid], set()).update(_read_map(section))
    return programmes


def _sections(data: bytes, map_pids: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """Whole sections of the tables, with their packet id. `map_pids` grows meanwhile."""
    unfinished: dict[int, bytearray] = {}
    for packet in _packets(data):
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        if pid != _PAT_PID and pid not in map_pids:
            continue
        payload = _payload(packet)
        if packet[1] & 0x40 and payload:  # a section begins, after a pointer to it
            unfinished[pid] = bytearray(payload[1 + payload[0] :])
        elif pid in unfinished:
            unfinished[pid] += payload
        section = unfinished.get(pid)
        if section is not None and len(section) >= 3:
            length = 3 + ((section[1] & 0x0F) << 8 | section[2])
            if len(section) >= length:
                yield pid, bytes(section[:length])
                del unfinished[pid]


def _packets(data: bytes) -> Iterator[bytes]:
    size, start = _find_packets(data)
    if size:
        for position in range(start, len(data) - _PAYLOAD + 1, size):
            if data[position] == _SYNC:
                yield data[position : position + _PAYLOAD]


def _find_packets(data: bytes) -> tuple[int, int]:
    """Size of the packets and where the first begins; (0, 0) where there are none."""
    for size in _PACKET_SIZES:
        for start in range(size):
            marks = data[start : start + 5 * size : size]
            if len(marks) > 1 and all(mark == _SYNC for mark in marks):
                return size, start
    return 0, 0


def _payload(packet: bytes) -> bytes:
    control = packet[3] >> 4 & 3
    if control == 1:
        return packet[4:]
    return packet[5 + packet[4] :] if control == 3 else b""


def _read_association(section: bytes) -> dict[int, int]:
    """Number of each programme by the packet id of its map."""
    entries = section[8:-4]
    found: dict[int, int] = {}
    for position in range(0, len(entries) - 3, 4):
        number = entries[position] << 8 | entries[position + 1]
        if number:  # 0 is the network's own table
            found[(entries[position + 2] & 0x1F) << 8 | entries[position + 3]] = number
    return found


def _read_map(section: bytes) -> Iterator[int]:
    """Packet ids of a programme's streams."""
    if len(section) < 16:
        return
    position = 12 + ((section[10] & 0x0F) << 8 | section[11])
    while position + 5 <= len(section) - 4:
        yield (section[position + 1] & 0x1F) << 8 | section[position + 2]
        position += 5 + ((section[position + 3] & 0x0F) << 8 | section[position + 4])
