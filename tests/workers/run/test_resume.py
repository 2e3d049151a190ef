from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from media import EncodeOptions
from media.sizes import SizeRequest
from pipelines.loaders import load_model
from pipelines.model import Model
from tests.media.clips import Clip, moving_pictures, remux, write_clip
from tests.pipelines.tiny import save_nano
from tests.thorough import sized
from tests.workers.made import FAST, decode, make_video, options, video_packets
from workers.errors import OutputFolderError, ResumeMismatchError, UnfinishedWorkError
from workers.run.folder import WorkFolder, work_folder_path
from workers.run.options import UpscaleOptions
from workers.run.record import RECORD_NAME, load_record
from workers.run.upscaler import upscale_file

ROOT = Path(__file__).parents[3]


class StoppedError(Exception):
    """Raised by a test in the middle of a run."""


def stop_after(clip: Path, out: Path, num_frames: int, *, model: Model, wanted: UpscaleOptions) -> None:
    """Runs until so many frames are written, then fails in the writer's thread."""

    def check(progress: Any) -> None:
        if progress.num_done == num_frames:
            raise StoppedError

    with pytest.raises(StoppedError):
        upscale_file(clip, out, model=model, options=wanted, on_progress=check)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network with random weights, whose frames depend on their chunk."""
    return load_model(str(save_nano(tmp_path_factory.mktemp("nano"))), device="cpu", dtype="float32")


CHUNKINGS = [(8, 3), (1, 0), (30, 15), (8, 0), (7, 3)]


@pytest.mark.parametrize("chunking", sized(CHUNKINGS, brief=CHUNKINGS[:3]))
def test_a_run_stopped_anywhere_and_continued_gives_the_same_packets(
    clip: Path, tmp_path: Path, bicubic: Model, chunking: tuple[int, int]
) -> None:
    wanted = options(chunk=chunking[0], chunk_overlap=chunking[1])
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=wanted)
    expected = video_packets(tmp_path / "whole.mp4")
    for num_frames in sized((20, 34, 61, 99), brief=(34, 99)):
        out = tmp_path / f"{num_frames}.mp4"
        stop_after(clip, out, num_frames, model=bicubic, wanted=wanted)
        report = upscale_file(clip, out, model=bicubic, options=wanted, existing="resume")
        assert video_packets(out) == expected
        assert 0 <= report.num_resumed_frames <= num_frames
        assert not work_folder_path(out).exists()


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mp4"])
def test_a_run_of_vp9_is_continued_to_the_same_bytes(
    suffix: str, clip: Path, tmp_path: Path, bicubic: Model
) -> None:
    wanted = options(encode=EncodeOptions(codec="vp9", preset="ultrafast"))
    upscale_file(clip, tmp_path / f"whole{suffix}", model=bicubic, options=wanted)
    out = tmp_path / f"out{suffix}"
    stop_after(clip, out, 61, model=bicubic, wanted=wanted)
    report = upscale_file(clip, out, model=bicubic, options=wanted, existing="resume")
    assert report.num_resumed_frames > 0
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_a_run_over_a_lost_keyframe_is_continued_to_the_same_packets(tmp_path: Path, bicubic: Model) -> None:
    def lose(packet: Any, number: int) -> bool:
        if number == 24:
            packet.update(b"\xff" * packet.size)
        return True

    whole = write_clip(tmp_path / "sound.mp4", moving_pictures(60), Clip(num_b_frames=2))
    clip, wanted = remux(whole, tmp_path / "clip.mp4", change=lose), options()
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=wanted)
    stop_after(clip, tmp_path / "out.mp4", 45, model=bicubic, wanted=wanted)
    report = upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=wanted, existing="resume")
    assert report.num_resumed_frames > 24
    assert video_packets(tmp_path / "out.mp4") == video_packets(tmp_path / "whole.mp4")


def test_a_network_with_overlapping_chunks_continues_to_the_same_packets(tmp_path: Path, nano: Model) -> None:
    clip = make_video(tmp_path / "clip.mp4", 40, size=(32, 32), cuts=(13,))
    wanted = options(size=SizeRequest(scale=Fraction(4)), use_compare_video=True)
    upscale_file(clip, tmp_path / "whole.mp4", model=nano, options=wanted)
    out = tmp_path / "out.mp4"
    stop_after(clip, out, 30, model=nano, wanted=wanted)
    report = upscale_file(clip, out, model=nano, options=wanted, existing="resume")
    assert report.num_resumed_frames > 0
    assert video_packets(out) == video_packets(tmp_path / "whole.mp4")
    assert video_packets(tmp_path / "out.compare.mp4") == video_packets(tmp_path / "whole.compare.mp4")


KILLED_RUN = """
    import os, signal, sys
    from fractions import Fraction
    from pathlib import Path
    from tests.workers.made import options
    from pipelines.loaders import load_model
    from workers.run.upscaler import upscale_file

    def kill(progress):
        if progress.stage == sys.argv[3] and progress.num_done == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)

    upscale_file(Path(sys.argv[1]), Path(sys.argv[2]), model=load_model("bicubic", device="cpu"),
                 options=options(), existing="resume", on_progress=kill)
"""


def run_and_kill(clip: Path, out: Path, stage: str, num_done: int) -> None:
    arguments = [str(clip), str(out), stage, str(num_done)]
    code = textwrap.dedent(KILLED_RUN)
    done = subprocess.run(
        [sys.executable, "-X", "forked", "-c", code, *arguments], cwd=ROOT, capture_output=True
    )
    assert done.returncode == -9, done.stderr.decode()


def test_a_process_killed_again_and_again_ends_with_the_same_video(
    clip: Path, tmp_path: Path, bicubic: Model
) -> None:
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=options())
    out = tmp_path / "out.mp4"
    ends = (("upscaling", 30), ("upscaling", 70), ("joining", 100))
    for stage, num_done in sized(ends, brief=ends[1:]):
        run_and_kill(clip, out, stage, num_done)
        assert not out.exists()
        assert work_folder_path(out).is_dir()
    report = upscale_file(clip, out, model=bicubic, options=options(), existing="resume")
    assert report.num_resumed_frames == 100
    assert video_packets(out) == video_packets(tmp_path / "whole.mp4")
    assert decode(out) == decode(tmp_path / "whole.mp4")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out.mp4"]


@pytest.fixture
def unfinished(clip: Path, tmp_path: Path, bicubic: Model) -> Path:
    """An output whose run was stopped after a few segments."""
    stop_after(clip, tmp_path / "out.mp4", 60, model=bicubic, wanted=options())
    return tmp_path / "out.mp4"


def test_an_unfinished_run_is_neither_lost_nor_continued_unasked(
    clip: Path, unfinished: Path, bicubic: Model
) -> None:
    with pytest.raises(UnfinishedWorkError, match="--resume"):
        upscale_file(clip, unfinished, model=bicubic, options=options())
    upscale_file(clip, unfinished, model=bicubic, options=options(), existing="overwrite")
    assert len(decode(unfinished)) == 100


def test_changed_options_are_named_and_nothing_is_lost(clip: Path, unfinished: Path, bicubic: Model) -> None:
    changed = options(size=SizeRequest(scale=Fraction(3)), encode=replace(FAST, crf=20))
    with pytest.raises(ResumeMismatchError) as caught:
        upscale_file(clip, unfinished, model=bicubic, options=changed, existing="resume")
    assert "option size.scale was '2' and is '3'" in caught.value.differences
    assert "option encode.crf was None and is 20" in caught.value.differences
    assert any(work_folder_path(unfinished).glob("segment-*.mp4"))


def test_another_model_is_refused(clip: Path, unfinished: Path, nano: Model) -> None:
    with pytest.raises(ResumeMismatchError, match="option model was 'bicubic'"):
        upscale_file(clip, unfinished, model=nano, options=options(), existing="resume")


def test_a_changed_input_is_refused(unfinished: Path, tmp_path: Path, bicubic: Model) -> None:
    other = make_video(tmp_path / "other.mp4", 100)
    with pytest.raises(ResumeMismatchError, match="the input's size_bytes was"):
        upscale_file(other, unfinished, model=bicubic, options=options(), existing="resume")


def test_a_damaged_manifest_is_reported(clip: Path, unfinished: Path, bicubic: Model) -> None:
    (work_folder_path(unfinished) / RECORD_NAME).write_text('{"version": 1')
    with pytest.raises(OutputFolderError, match="damaged"):
        upscale_file(clip, unfinished, model=bicubic, options=options(), existing="resume")


def test_the_plan_of_the_first_run_is_kept(clip: Path, unfinished: Path, bicubic: Model) -> None:
    manifest = load_record(work_folder_path(unfinished))
    assert manifest is not None
    assert manifest.plan["chunk_len"] == 8
    assert sum(segment.num_frames for segment in manifest.segments) == manifest.num_frames


def test_two_processes_do_not_write_the_same_output(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    with (
        WorkFolder(tmp_path / "out.mp4", existing="refuse"),
        pytest.raises(OutputFolderError, match="another process"),
    ):
        upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options())


def test_foreign_files_in_the_work_folder_survive(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    folder = work_folder_path(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options())
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
