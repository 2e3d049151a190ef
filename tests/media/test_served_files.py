"""Files that lie elsewhere, read in the sandbox through its caller."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from media import MediaInfo, UnreadableInputError, VideoReader, probe
from media.sandbox import SandboxedReader, sandboxed_join, sandboxed_probe, shared_sandbox
from media.sandbox._process import SandboxedProcess
from tests.media import sandbox_acts as acts
from tests.media.clips import Clip, moving_pictures, write_clip
from tests.media.sources import Sound, make_source, write_segment

ELSEWHERE = Path("/elsewhere/film")
SANDBOX = shared_sandbox("read")


class GoneError(Exception):
    pass


class Film:
    """A file's bytes; counts them, may be slow, and may be gone from some place on."""

    def __init__(self, path: Path, *, end: int | None = None, seconds: float = 0) -> None:
        self._data, self._end, self._seconds = path.read_bytes(), end, seconds
        self.size_bytes, self.num_read = len(self._data), 0

    def read(self, offset: int, length: int) -> bytes:
        time.sleep(self._seconds)
        if self._end is not None and offset + length > self._end:
            raise GoneError("the storage is away")
        self.num_read += length
        return self._data[offset : offset + length]


def probe_served() -> MediaInfo:
    return sandboxed_probe(ELSEWHERE, sandbox=SANDBOX)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_served_file_is_read_as_one_on_the_disk(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, moving_pictures(30), Clip(num_b_frames=2))
    info = probe(path)
    with SANDBOX.mounted(ELSEWHERE, Film(path)):
        served = probe_served()
        assert (served.path, served.video) == (ELSEWHERE, info.video)
        with SandboxedReader(served, sandbox=SANDBOX) as reader, VideoReader(info) as plain:
            for pts in (None, 600 if name == "a.mkv" else int(0.6 / plain.time_base)):
                got, expected = list(reader.frames(from_pts=pts)), list(plain.frames(from_pts=pts))
                assert [frame.pts for frame in got] == [frame.pts for frame in expected]
                for a, b in zip(got, expected, strict=True):
                    assert torch.equal(a.image, b.image)


def test_a_served_source_is_joined_with_its_sound(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mp4", seconds=1, sounds=[Sound("aac")])
    segment = write_segment(tmp_path / "segment.mp4", range(25)).path
    outputs = []
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        with SANDBOX.mounted(ELSEWHERE, Film(source)):
            info = probe(source) if name == "here" else probe_served()
            report = sandboxed_join([segment], tmp_path / name / "out.mp4", source=info, sandbox=SANDBOX)
        outputs.append(report.path.read_bytes())
    assert outputs[0] == outputs[1]


def test_what_keeps_a_file_from_being_read_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", moving_pictures(150), Clip(codec="rawvideo"))
    film = Film(path)
    with SANDBOX.mounted(ELSEWHERE, film):
        info = probe_served()
    with SANDBOX.mounted(ELSEWHERE, Film(path, end=path.stat().st_size * 2 // 3)):
        with pytest.raises(GoneError, match="the storage is away"):
            probe_served()
        with SandboxedReader(info, sandbox=SANDBOX) as reader, pytest.raises(GoneError):
            for _ in reader.frames():
                pass


def test_what_a_process_makes_of_missing_bytes_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended from outside, which takes a moment; here it never is."""
    path = tmp_path / "film"
    path.write_bytes(bytes(1 << 20))
    with SANDBOX.mounted(ELSEWHERE, Film(path, end=1 << 19)), monkeypatch.context() as patched:
        patched.setattr(SandboxedProcess, "kill", lambda _: None)
        with pytest.raises(GoneError):
            SANDBOX.call(acts.read_what_is_there, ELSEWHERE, timeout=30, readable=[ELSEWHERE])


def test_waiting_for_a_file_is_not_held_against_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_pictures(10))
    with SANDBOX.mounted(ELSEWHERE, Film(path, seconds=0.6)):
        info = sandboxed_probe(ELSEWHERE, timeout=0.5, sandbox=SANDBOX)
    assert info.video.codec == "h264"


def test_a_path_is_served_while_it_is_mounted_only(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_pictures(10))
    with SANDBOX.mounted(ELSEWHERE, Film(path)):
        probe_served()
    with pytest.raises(UnreadableInputError, match="no such file"):
        probe_served()
