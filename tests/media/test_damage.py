"""Damaged files: what can be had comes out, the rest is said, nothing hangs or crashes."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import pytest

from media import Frame, InputLimits, MediaError, VideoReader, probe
from tests.media.clips import Clip, moving_pictures, remux, write_clip

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FASTSTART = {"movflags": "faststart"}
VPX = {"cpu-used": "8", "deadline": "realtime"}

CONTAINERS = {
    "faststart.mp4": Clip(num_b_frames=2, container_options=FASTSTART),
    "fragmented.mp4": Clip(num_b_frames=2, container_options=FRAGMENTED),
    "index-last.mp4": Clip(num_b_frames=2),
    "h264.mkv": Clip(num_b_frames=2),
    "vp9.webm": Clip(codec="libvpx-vp9", options=VPX),
    "h264.ts": Clip(num_b_frames=2),
    "mpeg2.mpg": Clip(codec="mpeg2video", num_b_frames=2),
    "mpeg4.avi": Clip(codec="mpeg4"),
    "h264.flv": Clip(num_b_frames=2),
    "wmv2.wmv": Clip(codec="wmv2"),
}
# These formats state how long they are before the end of the file.
SAY_THEIR_LENGTH = {"faststart.mp4", "h264.mkv", "vp9.webm"}
NUM_FRAMES = 50


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_clip(path, moving_pictures(NUM_FRAMES), CONTAINERS[name])

    return make


# A flipped bit can ask for frames of 8192x4320.
SMALL = InputLimits(max_pixels=256 * 256)


def read(path: Path) -> tuple[list[Frame], list[str]]:
    with VideoReader(probe(path, limits=SMALL), limits=SMALL) as reader:
        return list(reader.frames()), reader.warnings


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_cut_file_gives_its_beginning_or_an_error(
    tmp_path: Path, clips: Callable[[str], Path], name: str, share: float
) -> None:
    data = clips(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    try:
        frames, warnings = read(path)
    except MediaError:
        is_excused = share <= 0.1 or name == "index-last.mp4"
        if not is_excused:
            raise
        return
    assert 0 < len(frames) <= NUM_FRAMES * min(1, share + 0.2)
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})
    if name in SAY_THEIR_LENGTH and len(frames) < NUM_FRAMES - 3:
        assert any("truncated" in warning for warning in warnings)


@pytest.mark.parametrize("name", sorted(set(CONTAINERS)))
def test_a_whole_file_is_not_called_truncated(clips: Callable[[str], Path], name: str) -> None:
    frames, warnings = read(clips(name))
    assert len(frames) == NUM_FRAMES
    assert warnings == []


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path, clips: Callable[[str], Path]) -> None:
    def spoil(packet: av.Packet, number: int) -> bool:
        if number in (20, 21, 30):
            packet.update(b"\xff" * packet.size)
        return True

    frames, warnings = read(remux(clips("vp9.webm"), tmp_path / "spoiled.webm", change=spoil))
    assert len(frames) == NUM_FRAMES - 3
    assert warnings == ["3 damaged video packets were skipped"]


def test_lost_packets_leave_a_gap_in_time(tmp_path: Path, clips: Callable[[str], Path]) -> None:
    lost = range(24, 36)  # the third group of pictures

    path = remux(clips("vp9.webm"), tmp_path / "gap.webm", change=lambda packet, number: number not in lost)
    frames, _ = read(path)
    steps = {after.pts - before.pts for before, after in pairwise(frames)}
    assert steps == {40, 40 * (len(lost) + 1)}


def test_damage_looks_the_same_each_time(tmp_path: Path, clips: Callable[[str], Path]) -> None:
    data = bytearray(clips("h264.ts").read_bytes())
    for position in random.Random(5).sample(range(2000, len(data)), 40):
        data[position] ^= 0x10
    path = tmp_path / "flipped.ts"
    path.write_bytes(data)
    (first, _), (second, _) = read(path), read(path)
    assert [frame.pts for frame in first] == [frame.pts for frame in second]
    assert all(a.image.equal(b.image) for a, b in zip(first, second, strict=True))


def test_a_recording_that_starts_between_keyframes_starts_at_the_first_one(
    tmp_path: Path, clips: Callable[[str], Path]
) -> None:
    path = remux(clips("h264.ts"), tmp_path / "late.ts", change=lambda packet, number: number >= 6)
    frames, _ = read(path)
    assert 0 < len(frames) <= NUM_FRAMES - 12
    assert frames[0].pts > 0


def mutants(data: bytes, count: int, seed: int) -> list[bytes]:
    """Copies with bits flipped, runs of zeros, pieces cut out, doubled or swapped."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        copy = bytearray(data)
        kind = number % 6
        if kind == 0:
            for position in rng.sample(range(len(copy)), len(copy) // 100):
                copy[position] ^= 1 << rng.randrange(8)
        elif kind == 1:  # the head only
            for position in rng.sample(range(min(600, len(copy))), 12):
                copy[position] = rng.randrange(256)
        else:
            start = rng.randrange(len(copy))
            end = min(len(copy), start + rng.randrange(1, 2000))
            piece = copy[start:end]
            if kind == 2:
                copy[start:end] = bytes(end - start)
            elif kind == 3:
                del copy[start:end]
            elif kind == 4:
                copy[start:start] = piece
            else:
                target = rng.randrange(len(copy))
                copy[start:end] = copy[target : target + len(piece)]
        made.append(bytes(copy))
    return made


@pytest.mark.parametrize("name", CONTAINERS)
def test_mangled_files_are_read_or_refused(tmp_path: Path, clips: Callable[[str], Path], name: str) -> None:
    path = tmp_path / name
    for mutant in mutants(clips(name).read_bytes(), 24, seed=len(name)):
        path.write_bytes(mutant)
        try:
            frames, _ = read(path)
        except MediaError:
            continue
        pts = [frame.pts for frame in frames]
        assert pts == sorted(set(pts))
        assert pts[0] >= 0
        assert all(frame.duration > 0 for frame in frames)
        assert len({frame.image.shape for frame in frames}) == 1
