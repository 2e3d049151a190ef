"""`SandboxedReader` gives what `VideoReader` gives, from a process that may die."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest

from media import (
    InputLimits,
    MediaInfo,
    NoFramesError,
    SandboxError,
    UnreadableInputError,
    VideoReader,
    probe,
)
from media.errors import InputMemoryError, InputTimeoutError
from media.sandbox import READ_MODULES, Sandbox, SandboxedReader, SandboxLimits, _frames
from media.sandbox._child import Port
from tests.media import sandbox_acts as acts
from tests.media.clips import (
    Clip,
    add_origin,
    field_pictures,
    interlace,
    moving_pictures,
    remux,
    write_clip,
)

TIMEOUT = 60.0
QUARTER_TURN = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
NUM_FRAMES = 24


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(preload=[*READ_MODULES, "tests.media.sandbox_acts"]) as sandbox:
        yield sandbox


def plain(folder: Path) -> Path:
    return write_clip(folder / "plain.mp4", moving_pictures(NUM_FRAMES), Clip(num_b_frames=2))


def variable_rate(folder: Path) -> Path:
    pts = [number * 40 + (number % 3) * 11 for number in range(NUM_FRAMES)]
    clip = Clip(time_base=Fraction(1, 1000))
    return write_clip(folder / "vfr.mkv", moving_pictures(NUM_FRAMES), clip, pts=pts)


def rotated(folder: Path) -> Path:
    clip = Clip(display_matrix=QUARTER_TURN, sample_aspect_ratio=Fraction(4, 3))
    return write_clip(folder / "rotated.mp4", moving_pictures(NUM_FRAMES), clip)


def interlaced(folder: Path) -> Path:
    clip = Clip(codec="mpeg2video", field_order="tff", options={"b": "4000000"})
    return write_clip(folder / "fields.mpg", interlace(field_pictures(NUM_FRAMES), is_top_first=True), clip)


def ten_bit(folder: Path) -> Path:
    pictures = moving_pictures(NUM_FRAMES, pix_fmt="yuv420p10le", width=321, height=181)
    clip = Clip(codec="ffv1", pix_fmt="yuv420p10le", width=321, height=181)
    return write_clip(folder / "ten.mkv", pictures, clip)


def truncated(folder: Path) -> Path:
    clip = Clip(container_options={"movflags": "faststart"})
    path = write_clip(folder / "cut.mp4", moving_pictures(NUM_FRAMES), clip)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    return path


def damaged(folder: Path) -> Path:
    def spoil(packet: Any, number: int) -> bool:
        if number in (8, 9, 20):
            packet.update(b"\xff" * packet.size)
        return True

    vp9 = Clip(codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})
    whole = write_clip(folder / "whole.webm", moving_pictures(NUM_FRAMES), vp9)
    return remux(whole, folder / "damaged.webm", change=spoil)


def late_start(folder: Path) -> Path:
    return remux(plain(folder), folder / "late.ts", change=add_origin(90_000))


def frames_of(reader: VideoReader | SandboxedReader, **kwargs: Any) -> list[tuple[int, int, bytes]]:
    return [(f.pts, f.duration, f.image.numpy().tobytes()) for f in reader.frames(**kwargs)]


@pytest.mark.parametrize(
    "make", [plain, variable_rate, rotated, interlaced, ten_bit, truncated, damaged, late_start]
)
def test_frames_and_warnings_are_those_of_a_plain_reader(tmp_path: Path, sandbox: Sandbox, make: Any) -> None:
    info = probe(make(tmp_path))
    with VideoReader(info) as expected, SandboxedReader(info, sandbox=sandbox) as reader:
        attributes = ("info", "width", "height", "time_base", "rate", "color", "is_deinterlaced")
        for name in attributes:
            assert getattr(reader, name) == getattr(expected, name)
        frames = frames_of(expected)
        assert len(frames) > 1
        assert frames_of(reader) == frames
        assert reader.warnings == expected.warnings
        middle = frames[len(frames) // 2][0]
        assert frames_of(reader, from_pts=middle) == frames_of(expected, from_pts=middle)
        assert reader.warnings == expected.warnings  # nothing twice
    if make in (truncated, damaged):
        assert reader.warnings


def test_a_range_is_kept(tmp_path: Path, sandbox: Sandbox) -> None:
    info = probe(plain(tmp_path))
    choice: dict[str, Any] = {"start_seconds": Fraction(1, 4), "duration_seconds": Fraction(1, 3)}
    with VideoReader(info, **choice) as expected, SandboxedReader(info, **choice, sandbox=sandbox) as reader:
        assert frames_of(reader) == frames_of(expected)
    with pytest.raises(ValueError, match="start_seconds"):
        SandboxedReader(info, start_seconds=Fraction(-1))


def test_images_are_own_memory(tmp_path: Path, sandbox: Sandbox) -> None:
    info = probe(plain(tmp_path))
    with SandboxedReader(info, sandbox=sandbox) as reader:
        frames = reader.frames()
        first = next(frames)
        before = first.image.clone()
        rest = list(frames)
    assert len(rest) > 4  # the ring has gone round
    assert first.image.equal(before)
    first.image.zero_()
    assert not rest[0].image.equal(first.image)


def test_two_iterations_at_once_do_not_mix(tmp_path: Path, sandbox: Sandbox) -> None:
    info = probe(plain(tmp_path))
    with SandboxedReader(info, sandbox=sandbox) as reader:
        pairs = list(zip(reader.frames(), reader.frames(), strict=True))
    assert len(pairs) == NUM_FRAMES
    assert all(a.pts == b.pts and a.image.equal(b.image) for a, b in pairs)


def test_errors_of_reading_arrive(tmp_path: Path, sandbox: Sandbox) -> None:
    path = plain(tmp_path)
    info = probe(path)
    with (
        SandboxedReader(info, start_seconds=Fraction(100), sandbox=sandbox) as reader,
        pytest.raises(NoFramesError, match="no frames from 100 s on"),
    ):
        next(reader.frames())
    path.unlink()
    with SandboxedReader(info, sandbox=sandbox) as reader, pytest.raises(UnreadableInputError):
        next(reader.frames())


class TestEnd:
    def test_closing_ends_the_process_and_gives_everything_back(
        self, tmp_path: Path, sandbox: Sandbox
    ) -> None:
        info = probe(plain(tmp_path))
        sandbox.call(acts.add, 1, 1, timeout=TIMEOUT)
        before = len(list(Path("/dev/fd").iterdir()))
        with SandboxedReader(info, sandbox=sandbox) as reader:
            frames = reader.frames()
            next(frames)
            assert len(list(Path("/dev/fd").iterdir())) > before
        assert len(list(Path("/dev/fd").iterdir())) == before
        assert list(frames) == []
        with pytest.raises(ValueError, match="closed"):
            reader.frames()
        reader.close()

    def test_closing_ends_an_iterator_that_waits_in_another_thread(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("media.sandbox._reader.send_frames", acts.announce_and_wait)
        reader = SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox, timeout=TIMEOUT)
        left: list[Any] = []
        thread = threading.Thread(target=lambda: left.extend(reader.frames()))
        thread.start()
        while not reader._processes:
            time.sleep(0.01)
        reader.close()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert left == []

    def test_a_killed_process_is_an_error_and_the_next_one_works(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox) as reader:
            with monkeypatch.context() as patch:
                patch.setattr("media.sandbox._reader.send_frames", acts.announce_and_die)
                with pytest.raises(SandboxError, match=f"signal {signal.SIGKILL:d}"):
                    list(reader.frames())
            assert len(list(reader.frames())) == NUM_FRAMES

    def test_a_process_without_progress_is_ended(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("media.sandbox._reader.send_frames", acts.announce_and_wait)
        with (
            SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox, timeout=0.3) as reader,
            pytest.raises(InputTimeoutError, match=r"0\.3 s"),
        ):
            list(reader.frames())

    def test_a_process_that_burns_its_time_is_ended(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("media.sandbox._reader.send_frames", acts.announce_and_burn)
        limits = SandboxLimits(cpu_seconds=1)
        with (
            SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox, sandbox_limits=limits) as reader,
            pytest.raises(InputTimeoutError, match="1 s of processor time"),
        ):
            list(reader.frames())

    def test_too_little_memory_is_an_error(self, tmp_path: Path, sandbox: Sandbox) -> None:
        size = {"width": 2048, "height": 1024}
        path = write_clip(tmp_path / "large.mp4", moving_pictures(2, **size), Clip(**size))
        limits = SandboxLimits(memory_bytes=24 << 20)
        with (
            SandboxedReader(probe(path), sandbox=sandbox, sandbox_limits=limits) as reader,
            pytest.raises((InputMemoryError, NoFramesError, UnreadableInputError, SandboxError)),
        ):
            list(reader.frames())

    @pytest.mark.parametrize(
        "act", [acts.send_notes_of_numbers, acts.send_no_notes, acts.send_entries_of_text]
    )
    def test_warnings_and_entries_that_are_none_are_an_error(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, act: Any
    ) -> None:
        monkeypatch.setattr("media.sandbox._reader.send_frames", act)
        with SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox) as reader, pytest.raises(SandboxError):
            list(reader.frames())

    @pytest.mark.parametrize("values", [(99, 0, 1), (-1, 0, 1), ("0", 0, 1), (0, 0.5, 1)], ids=repr)
    def test_a_frame_that_cannot_be_is_an_error(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, values: tuple[Any, ...]
    ) -> None:
        monkeypatch.setattr("media.sandbox._reader.send_frames", acts.SEND_FRAME[values])
        with (
            SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox) as reader,
            pytest.raises(SandboxError, match="cannot be"),
        ):
            list(reader.frames())


def test_entries_are_those_of_a_plain_reader(tmp_path: Path, sandbox: Sandbox) -> None:
    info = probe(write_clip(tmp_path / "a.ts", moving_pictures(40), Clip(num_b_frames=2)))
    with SandboxedReader(info, sandbox=sandbox) as reader, VideoReader(info) as plain:
        full = list(reader.frames())
        list(plain.frames())
        for number in (5, 20, 30):
            assert reader.entry_before(full[number].pts) == plain.entry_before(full[number].pts)
        entry = reader.entry_before(full[30].pts)
        assert entry is not None
        again = reader.frames(from_pts=full[30].pts, entry=entry)
        assert [frame.pts for frame in again] == [frame.pts for frame in full[30:]]


class _RecordingPort:
    """A caller that empties one slot at a time, only when the other side cannot go on."""

    def __init__(self, file: int, frame_bytes: int) -> None:
        self.file = file
        self.frames: list[bytes] = []
        self.most_waiting = 0
        self._frame_bytes = frame_bytes
        self._waiting: deque[int] = deque()

    def send(self, kind: str, slot: int, pts: int, duration: int, captions: bytes, *_: object) -> None:
        assert kind == "frame"
        assert slot not in self._waiting
        self._waiting.append(slot)
        self.most_waiting = max(self.most_waiting, len(self._waiting))

    def receive_byte(self) -> int:
        return self._empty_one()

    def show_life(self) -> None:
        pass

    def renew_cpu_limit(self) -> None:
        pass

    def finish(self) -> None:
        while self._waiting:
            self._empty_one()

    def _empty_one(self) -> int:
        slot = self._waiting.popleft()
        self.frames.append(os.pread(self.file, self._frame_bytes, slot * self._frame_bytes))
        return slot


def test_no_more_frames_wait_than_there_are_slots(tmp_path: Path) -> None:
    info = probe(plain(tmp_path))
    frame_bytes = 3 * 4 * info.video.width * info.video.height
    with (tmp_path / "ring").open("w+b") as file, VideoReader(info) as expected:
        file.truncate(2 * frame_bytes)
        port = _RecordingPort(file.fileno(), frame_bytes)
        options = _frames.ReadingOptions(
            start_seconds=None,
            duration_seconds=None,
            deinterlace=None,
            num_threads=1,
            limits=InputLimits(),
            keep_alpha=False,
        )
        assert _frames.send_frames(cast(Port, port), info, options, None, None, 2) == []
        port.finish()
        assert port.most_waiting == 2
        assert port.frames == [image for _, _, image in frames_of(expected)]


def test_signs_of_life_come_while_there_are_no_frames(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    info: MediaInfo = probe(plain(tmp_path))
    monkeypatch.setattr("media.sandbox._reader.send_frames", acts.live_slowly)
    with SandboxedReader(info, sandbox=sandbox, timeout=2.0) as reader:
        assert list(reader.frames()) == []
    assert reader.warnings == ["lived on"]


def test_packets_that_give_no_frame_count_as_progress(tmp_path: Path) -> None:
    signs: list[None] = []
    with VideoReader(probe(plain(tmp_path)), on_packet=lambda: signs.append(None)) as reader:
        last = NUM_FRAMES - 1
        (frame,) = reader.frames(from_pts=round(last / 25 / reader.time_base))
    assert frame.duration > 0
    assert len(signs) >= NUM_FRAMES


def test_shared_memory_has_no_name(tmp_path: Path, sandbox: Sandbox) -> None:
    names = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()
    with SandboxedReader(probe(plain(tmp_path)), sandbox=sandbox) as reader:
        next(reader.frames())
        assert (set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()) == names
