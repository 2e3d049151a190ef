"""Sound whose channels or rate change on the way, as in broadcasts between a film and what comes before."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from av.packet import Packet

_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_ADTS_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)
_AC3_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
_MPEG_RATES = (44100, 48000, 32000)


@dataclass(frozen=True)
class SoundShape:
    """What a frame of sound says of itself."""

    channels: int
    rate: int
    """Hz"""


@dataclass(frozen=True)
class SoundChanges:
    """What differs among the packets of a stream.

    Attributes:
        shapes: That were met; none where the codec's packets do not say.
        has_new_header: Whether the container changes the decoder's header on the way.
        is_encrypted: Whether any packet is.
    """

    shapes: frozenset[SoundShape]
    has_new_header: bool
    is_encrypted: bool

    @property
    def is_steady(self) -> bool:
        """Whether one header describes all packets."""
        return len(self.shapes) < 2 and not self.has_new_header

    @property
    def max_channels(self) -> int:
        """Of any part."""
        return max((shape.channels for shape in self.shapes), default=0)

    @property
    def max_rate(self) -> int:
        """Of any part, in Hz; of HE-AAC half of what is heard."""
        return max((shape.rate for shape in self.shapes), default=0)


def find_sound_changes(packets: "Iterable[Packet[Any]]", codec: str) -> SoundChanges:
    """Look at the head of every packet."""
    shapes: set[SoundShape] = set()
    has_new_header = is_encrypted = False
    read = _READERS.get(codec)
    for packet in packets:
        is_encrypted |= packet.has_sidedata("encryption_info")
        has_new_header |= packet.has_sidedata("new_extradata")
        shape = read(bytes(memoryview(packet)[:16])) if read is not None else None
        if shape is not None:
            shapes.add(shape)
    return SoundChanges(frozenset(shapes), has_new_header, is_encrypted)


def read_adts(head: bytes) -> SoundShape | None:
    """Of AAC with a header of its own on each frame (ISO/IEC 14496-3, 1.A.3.2)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    rate = head[2] >> 2 & 15
    channels = _ADTS_CHANNELS[(head[2] & 1) << 2 | head[3] >> 6]
    return SoundShape(channels, _ADTS_RATES[rate]) if rate < len(_ADTS_RATES) and channels else None


def read_ac3(head: bytes) -> SoundShape | None:
    """Of AC-3 and E-AC-3 (ETSI TS 102 366, 4.3 and E.1.2)."""
    if len(head) < 8 or head[:2] != b"\x0b\x77":
        return None
    code = head[4] >> 6
    if code >= len(_AC3_RATES):
        return None
    if head[5] >> 3 > 10:
        mode, has_lfe = head[4] >> 1 & 7, head[4] & 1
    else:
        mode = head[6] >> 5
        skipped = 3 + 2 * (mode & 1 and mode != 1) + 2 * (mode & 4 != 0) + 2 * (mode == 2)
        has_lfe = head[6 + skipped // 8] >> (7 - skipped % 8) & 1
    return SoundShape(_AC3_CHANNELS[mode] + has_lfe, _AC3_RATES[code])


def read_mpeg_audio(head: bytes) -> SoundShape | None:
    """Of MPEG-1 and 2, layers I to III (ISO/IEC 11172-3, 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, code = head[1] >> 3 & 3, head[2] >> 2 & 3
    if version == 1 or code >= len(_MPEG_RATES):
        return None
    rate = _MPEG_RATES[code] // {3: 1, 2: 2, 0: 4}[version]
    return SoundShape(1 if head[3] >> 6 == 3 else 2, rate)


_READERS: dict[str, Callable[[bytes], SoundShape | None]] = {
    "aac": read_adts,
    "ac3": read_ac3,
    "eac3": read_ac3,
    **dict.fromkeys(("mp1", "mp2", "mp3"), read_mpeg_audio),
}
