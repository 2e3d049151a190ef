"""`VideoReader` with the decoder in a sandboxed process."""

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import fields
from fractions import Fraction
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import torch

from media._captions import MAX_CAPTION_BYTES
from media._entries import Entry, last_before
from media._notes import Notes
from media.errors import SandboxError
from media.frame import Frame
from media.info import ColorTags, MediaInfo
from media.limits import DEFAULT_LIMITS, InputLimits
from media.reader import DEFAULT_NUM_THREADS, VideoReader
from media.sandbox._frames import ReadingOptions, send_frames
from media.sandbox._limits import SandboxLimits
from media.sandbox._process import SandboxedProcess
from media.sandbox._sandbox import Sandbox, shared_sandbox
from media.sandbox._shared_memory import copy_from, make_shared_memory

# Frames that wait between the two processes. Two would let decoding and taking overlap; more evens out
# keyframes, and costs 11 MB each at 1280x720.
_MAX_SLOTS = 4
_MAX_RING_BYTES = 512 << 20

# A process that was taken over could say new things for ever.
_MAX_WARNINGS, _MAX_WARNING_LENGTH = 200, 1000

DEFAULT_READING_LIMITS = SandboxLimits(memory_bytes=4 << 30, cpu_seconds=300)
"""The limits of a reader's process, besides the memory that it shares. 8K takes 2 GiB, 4K 0.6 GiB."""


class SandboxedReader:
    """Reads a video as `VideoReader` does, bit for bit, but decodes it in a process with limited rights. Not
    thread-safe, except `close`.

    Each iteration is a process of its own. It decodes ahead by at most five frames. What it announces is
    checked, what it paints is not: the images of one that was taken over can hold any floats.

    Args:
        info: From `sandboxed_probe`.
        start_seconds: As for `VideoReader`.
        duration_seconds: As for `VideoReader`.
        deinterlace: As for `VideoReader`.
        num_threads: As for `VideoReader`.
        limits: As for `VideoReader`.
        keep_alpha: As for `VideoReader`.
        timeout: Seconds the process may take for a frame, or between two signs of progress where it has to
            read a long way to the first one.
        sandbox_limits: Resources of the process; its `cpu_seconds` count between signs of progress.
        sandbox: Where to run; None: the one for reading that this process shares.

    Raises:
        ValueError: As `VideoReader` raises.
    """

    def __init__(
        self,
        info: MediaInfo,
        *,
        start_seconds: Fraction | None = None,
        duration_seconds: Fraction | None = None,
        deinterlace: bool | None = None,
        num_threads: int = DEFAULT_NUM_THREADS,
        limits: InputLimits = DEFAULT_LIMITS,
        keep_alpha: bool = False,
        timeout: float = 60.0,
        sandbox_limits: SandboxLimits = DEFAULT_READING_LIMITS,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._options = ReadingOptions(
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            deinterlace=deinterlace,
            num_threads=num_threads,
            limits=limits,
            keep_alpha=keep_alpha,
        )
        # Never read from here: it knows what the frames will be like.
        twin = VideoReader(
            info,
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            deinterlace=deinterlace,
            num_threads=num_threads,
            limits=limits,
            keep_alpha=keep_alpha,
        )
        self.info = info
        self.is_deinterlaced: bool = twin.is_deinterlaced
        """Whether each field becomes a frame."""
        self.width: int = twin.width
        """Of the images, in pixels: as stored, not rotated."""
        self.height: int = twin.height
        self.time_base: Fraction = twin.time_base
        """Seconds per tick of the frames' pts and durations."""
        self.rate: Fraction = twin.rate
        """Nominal frames per second."""
        self.color: ColorTags = twin.color
        """What the images' values mean; the matrix is the one that was used, never "unspecified"."""
        self.keeps_alpha: bool = twin.keeps_alpha
        """Whether frames have alpha."""
        self._needed_pts = twin.needed_pts
        self._entries: list[Entry] = []
        self._num_channels = 4 if self.keeps_alpha else 3
        self._notes = Notes()
        self._timeout, self._sandbox_limits, self._sandbox = timeout, sandbox_limits, sandbox
        self._iterators: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self._processes: set[SandboxedProcess] = set()
        self._is_closed = False

    @property
    def warnings(self) -> list[str]:
        """What had to be repaired or skipped; grows while frames are read."""
        return self._notes

    def frames(self, *, from_pts: int | None = None, entry: Entry | None = None) -> Iterator[Frame]:
        """Read frames; may be called again, each call reads the file anew in a new process.

        Args:
            from_pts: As for `VideoReader.frames`.
            entry: As for `VideoReader.frames`.

        Returns:
            The frames. Their images are own memory.

        Raises:
            NoFramesError: As `VideoReader.frames` raises.
            InputLimitError: As `VideoReader.frames` raises.
            UnreadableInputError: As `VideoReader.frames` raises.
            InputTimeoutError: A frame takes too long.
            InputMemoryError: The process needs too much memory.
            SandboxError: The process died of the file.
            ValueError: The reader is closed.
        """
        if self._is_closed:
            raise ValueError("the reader is closed; make a new one to read again")
        self._notes.begin_pass()
        self._entries.clear()
        frames = self._frames(from_pts, entry)
        self._iterators.add(frames)
        return frames

    def entry_before(self, pts: int) -> Entry | None:
        """As `VideoReader.entry_before`."""
        return last_before(self._entries, self._needed_pts(pts))

    def close(self) -> None:
        """End all unfinished iterators and their processes; harmless a second time.

        An iterator that another thread is just advancing ends by itself before its next frame.
        """
        self._is_closed = True
        for process in list(self._processes):
            process.kill()
        for frames in list(self._iterators):
            with contextlib.suppress(ValueError):  # it is being advanced
                frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _frames(self, from_pts: int | None, entry: Entry | None) -> Generator[Frame, None, None]:
        frame_bytes = self._num_channels * self.height * self.width * 4
        num_slots = max(2, min(_MAX_SLOTS, _MAX_RING_BYTES // frame_bytes))
        with contextlib.ExitStack() as stack:
            ring = make_shared_memory(num_slots * frame_bytes)
            stack.callback(os.close, ring)
            process = self._start(ring, from_pts, entry, num_slots, frame_bytes)
            stack.callback(process.close)
            self._processes.add(process)
            stack.callback(self._processes.discard, process)
            while True:
                try:
                    kind, *values = process.receive(timeout=self._timeout)
                except SandboxError:
                    if self._is_closed:  # it was killed by `close`
                        return
                    raise
                if self._is_closed:
                    return
                if kind == "result":
                    self._note(values[0] if values else None)
                    return
                if kind == "frame":
                    slot, pts, duration, captions = self._check_frame(values, num_slots)
                    made = torch.empty(self._num_channels, self.height, self.width)
                    copy_from(ring, slot * frame_bytes, made)
                    process.send(bytes([slot]), timeout=self._timeout)
                    alpha = made[3:] if self.keeps_alpha else None
                    yield Frame(made[:3], pts, duration, captions, alpha)

    def _start(
        self, ring: int, from_pts: int | None, entry: Entry | None, num_slots: int, frame_bytes: int
    ) -> SandboxedProcess:
        limits = SandboxLimits(
            # The process maps the ring too.
            memory_bytes=self._sandbox_limits.memory_bytes + num_slots * frame_bytes,
            cpu_seconds=self._sandbox_limits.cpu_seconds,
            file_bytes=self._sandbox_limits.file_bytes,
            open_files=self._sandbox_limits.open_files,
        )
        return (self._sandbox or shared_sandbox("read")).start(
            send_frames,
            self.info,
            self._options,
            from_pts,
            entry,
            num_slots,
            limits=limits,
            readable=[self.info.path],
            files=[ring],
        )

    def _check_frame(self, values: list[Any], num_slots: int) -> tuple[int, int, int, bytes]:
        numbers = values[:3]
        is_frame = (
            len(values) == 6
            and all(type(number) is int for number in numbers)
            and isinstance(values[3], bytes)
            and len(values[3]) <= MAX_CAPTION_BYTES
        )
        if not is_frame or not 0 <= values[0] < num_slots:
            raise SandboxError(
                f"the process that reads the input announced a frame that cannot be: {numbers!r:.100}"
            )
        self._note(values[4])
        self._add_entries(values[5])
        slot, pts, duration, captions = values[:4]
        return slot, pts, duration, captions

    def _add_entries(self, entries: object) -> None:
        if entries is None:
            self._entries.clear()
            return
        for values in entries if isinstance(entries, list) else [None]:
            if not (
                isinstance(values, tuple)
                and len(values) == len(fields(Entry))
                and all(type(value) is int for value in values)
            ):
                raise SandboxError("the process that reads the input sent entries that are none")
            self._entries.append(Entry(*values))

    def _note(self, notes: object) -> None:
        for note in notes if isinstance(notes, list) else [None]:
            if not (
                isinstance(note, tuple) and len(note) == 2 and all(isinstance(part, str) for part in note)
            ):
                raise SandboxError("the process that reads the input sent warnings that are none")
            if len(self._notes) < _MAX_WARNINGS:
                key, text = note
                self._notes.add(key, text[:_MAX_WARNING_LENGTH])
