"""What a process that reads a file may read where this one is root, also on kernels without Landlock."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from media import VideoReader, join_segments, probe
from media.errors import SandboxError
from media.picture_packing import pack_pictures
from media.sandbox import (
    READ_MODULES,
    Sandbox,
    SandboxedReader,
    SandboxLimits,
    sandboxed_join,
    sandboxed_pack_pictures,
    sandboxed_picture,
    sandboxed_probe,
)
from media.sandbox._privileges import NOBODY
from media.sandbox._protections import LANDLOCK, SECCOMP, USER, is_confined
from media.stills import read_picture
from tests.media import sandbox_acts as acts
from tests.media.sources import Sound, make_source, write_segment

TIMEOUT = 60.0
LIMITS = SandboxLimits(file_bytes=1 << 30, memory_bytes=4 << 30)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


@pytest.fixture(scope="module", params=["landlock", "no landlock", "old kernel"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    kernel = {
        "landlock": [],
        "no landlock": ["tests.media.sandbox_without_landlock"],
        "old kernel": ["tests.media.sandbox_old_kernel"],
    }[request.param]
    with Sandbox(preload=[*READ_MODULES, "tests.media.sandbox_acts", *kernel]) as sandbox:
        yield sandbox


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder that only its owner may enter."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


def secret(folder: Path) -> Path:
    path = folder / "redis-password"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    return path


@needs_root
class TestRoot:
    def test_no_file_of_root_is_read(self, sandbox: Sandbox, private: Path) -> None:
        given = secret(private)
        other = given.with_name("other")
        other.write_bytes(b"")
        other.chmod(0o600)
        for path in (other, Path("/etc/shadow"), Path(f"/proc/{os.getpid()}/environ")):
            with pytest.raises(SandboxError, match="PermissionError"):
                sandbox.call(acts.read_file, str(path), timeout=TIMEOUT, readable=[given])
        assert sandbox.call(acts.read_file, str(given), timeout=TIMEOUT, readable=[given]) == 6

    def test_the_user_is_another_one_without_capabilities(self, sandbox: Sandbox) -> None:
        lines = dict(line.split(":\t", 1) for line in sandbox.call(acts.identity, timeout=TIMEOUT))
        assert lines["Uid"].split() == lines["Gid"].split() == [str(NOBODY)] * 4
        assert not lines["Groups"].split()
        assert lines["NoNewPrivs"] == "1"
        may_search = 1 << 2  # where Landlock has chosen the files, and Python lies in a folder of root's
        assert int(lines["CapEff"], 16) in ((0, may_search) if not sandbox.missing() else (0,))
        assert int(lines["CapPrm"], 16) == int(lines["CapEff"], 16)
        assert all(int(lines[name], 16) == 0 for name in ("CapInh", "CapBnd", "CapAmb"))

    def test_nothing_is_written_elsewhere(self, sandbox: Sandbox, private: Path) -> None:
        with pytest.raises(SandboxError, match="PermissionError"):
            sandbox.call(acts.write_file, str(private / "a"), timeout=TIMEOUT, limits=LIMITS)

    def test_what_it_writes_is_the_callers(self, sandbox: Sandbox, private: Path) -> None:
        kept = secret(private)
        sandbox.call(acts.write_path, private / "a", timeout=TIMEOUT, limits=LIMITS, writable=[private])
        for path in (private, kept, private / "a"):
            assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)

    def test_a_link_is_no_result(self, sandbox: Sandbox, private: Path, tmp_path: Path) -> None:
        def leave() -> str | None:
            return sandbox.call(
                acts.leave_a_link, private, str(secret(tmp_path)), timeout=TIMEOUT, writable=[private]
            )

        if SECCOMP in sandbox.missing():
            with pytest.raises(SandboxError, match="'result', which is no file"):
                leave()
        else:
            assert leave() == "PermissionError"

    def test_films_in_private_folders_are_read_and_joined(self, sandbox: Sandbox, private: Path) -> None:
        source = make_source(private / "source.mkv", sounds=[Sound("aac"), Sound("mp2")])
        info = sandboxed_probe(source, sandbox=sandbox)
        assert info == probe(source)
        with VideoReader(info) as plain, SandboxedReader(info, sandbox=sandbox) as confined:
            for expected, found in zip(plain.frames(), confined.frames(), strict=True):
                assert (found.pts, found.duration) == (expected.pts, expected.duration)
                assert torch.equal(found.image, expected.image)
        segments = [write_segment(private / "segment-0.mp4", range(48)).path]
        for path in (source, *segments):
            path.chmod(0o600)
        join_segments(segments, private / "plain.mp4", source=info)
        sandboxed_join(segments, private / "confined.mp4", source=info, sandbox=sandbox)
        assert (private / "confined.mp4").read_bytes() == (private / "plain.mp4").read_bytes()
        assert (private / "confined.mp4").stat().st_uid == 0
        assert not list(private.glob("*.part"))

    def test_pictures_in_private_folders_are_read(self, sandbox: Sandbox, private: Path) -> None:
        path = private / "a.png"
        Image.radial_gradient("L").resize((31, 17)).convert("RGB").save(path)
        path.chmod(0o600)
        found = sandboxed_picture(path, timeout=TIMEOUT, sandbox_limits=LIMITS, sandbox=sandbox)
        assert torch.equal(found.image, read_picture(path).image)
        packed = private / "packed"
        packed.mkdir(mode=0o700)
        sandboxed_pack_pictures(
            [path], Fraction(24), packed / "a.mov", timeout=TIMEOUT, sandbox_limits=LIMITS, sandbox=sandbox
        )
        pack_pictures([path], Fraction(24), private / "plain.mov")
        assert (packed / "a.mov").read_bytes() == (private / "plain.mov").read_bytes()


def test_a_run_that_was_killed_leaves_no_folder_in_the_way(tmp_path: Path) -> None:
    with Sandbox(preload=READ_MODULES) as sandbox:
        source = make_source(tmp_path / "source.mkv")
        segment = write_segment(tmp_path / "segment-0.mp4", range(48)).path
        left = tmp_path / "out.mp4.part"
        left.mkdir()
        (left / "out.mp4").write_bytes(b"half")
        sandboxed_join([segment], tmp_path / "out.mp4", source=probe(source), sandbox=sandbox)
    assert not left.exists()
    assert probe(tmp_path / "out.mp4").video.width > 0


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), True),
        ((LANDLOCK,), True),
        ((USER,), True),
        ((LANDLOCK, USER), False),
        ((SECCOMP,), False),
    ],
)
def test_a_process_is_confined_by_seccomp_and_by_landlock_or_its_user(
    missing: tuple[str, ...], expected: bool
) -> None:
    assert is_confined(missing) is expected
