"""The sandboxed side of `SandboxedReader`: decodes, converts, and lays the images into shared memory."""

import mmap
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass
from fractions import Fraction

import torch
from torch import Tensor

from media._entries import Entry
from media._notes import Notes
from media.info import MediaInfo
from media.limits import InputLimits
from media.reader import VideoReader
from media.sandbox._child import Port


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The arguments of a `VideoReader`."""

    start_seconds: Fraction | None
    duration_seconds: Fraction | None
    deinterlace: bool | None
    num_threads: int
    limits: InputLimits
    keep_alpha: bool


class ForwardedNotes(Notes):
    """Notes that are also kept as they come, to be said again elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._fresh: list[tuple[str, str]] = []
        self._said: dict[str, int] = {}

    def add(self, key: str, message: str | Callable[[int], str]) -> None:
        """As `Notes.add`."""
        count = self._said[key] = self._said.get(key, 0) + 1
        text = message if isinstance(message, str) else message(count)
        self._fresh.append((key, text))
        super().add(key, text)

    def take(self) -> list[tuple[str, str]]:
        """What was added since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh


class RingReader(VideoReader):
    """A reader that makes each image in a free slot of the ring, and waits for one where there is none.

    Args:
        info: As for `VideoReader`.
        options: For `VideoReader`.
        port: To the caller, which says which slots it has emptied.
        ring: (slots, channels, height, width), float32; 4 channels where alpha is kept, else 3.
    """

    def __init__(self, info: MediaInfo, options: ReadingOptions, port: Port, ring: Tensor) -> None:
        super().__init__(
            info,
            start_seconds=options.start_seconds,
            duration_seconds=options.duration_seconds,
            deinterlace=options.deinterlace,
            num_threads=options.num_threads,
            limits=options.limits,
            keep_alpha=options.keep_alpha,
            on_packet=port.show_life,
        )
        self.slot = -1
        """Of the last frame."""
        self._port, self._ring = port, ring
        self._free = deque(range(len(ring)))

    def _make_room(self) -> Tensor:
        self.slot = self._free.popleft() if self._free else self._port.receive_byte()
        return self._ring[self.slot]


def send_frames(
    port: Port,
    info: MediaInfo,
    options: ReadingOptions,
    from_pts: int | None,
    entry: Entry | None,
    num_slots: int,
) -> list[tuple[str, str]]:
    """Read frames until the end. Each is announced with its slot, pts, duration, captions, new notes and what
    `VideoReader.take_entries` gives; the caller sends back the number of a slot it has emptied.

    Args:
        port: To the caller; its file is the ring.
        info: From `probe`.
        options: For the reader.
        from_pts: For `VideoReader.frames`.
        entry: For `VideoReader.frames`.
        num_slots: Of the ring, each as in `RingReader`.

    Returns:
        Notes after the last frame.
    """
    # The conversion waits for memory rather than for the processor, and threads beyond the free cores wait
    # for each other: eight times slower on a busy machine.
    torch.set_num_threads(1)
    shape = (num_slots, -1, info.video.height, info.video.width)
    ring = torch.frombuffer(mmap.mmap(port.file, 0), dtype=torch.float32).view(shape)
    notes = ForwardedNotes()
    with RingReader(info, options, port, ring) as reader:
        reader.warnings = notes
        for frame in reader.frames(from_pts=from_pts, entry=entry):
            port.renew_cpu_limit()
            taken = reader.take_entries()
            found = None if taken is None else [astuple(entry) for entry in taken]
            port.send("frame", reader.slot, frame.pts, frame.duration, frame.captions, notes.take(), found)
    return notes.take()
