from __future__ import annotations

import errno
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from media import NoFramesError, SegmentWriter, UnreadableInputError
from media.sizes import SizeRequest
from pipelines.errors import OutOfMemoryError
from pipelines.model import Model
from pipelines.planning.frame_plan import FramePlan, FrameShape
from pipelines.planning.plan import ChunkPlan
from tests.media.sources import make_source
from tests.workers.made import FAST, SIZE, StandIn, decode, make_video
from workers.errors import DiskFullError, OutputExistsError, OutputFolderError
from workers.run.decisions import QUEUED_FRAMES
from workers.run.options import Existing, UpscaleOptions
from workers.run.progress import Progress
from workers.run.report import UpscaleReport, error_code
from workers.run.upscaler import upscale_file


def options(**changes: Any) -> UpscaleOptions:
    fields: dict[str, Any] = {
        "size": SizeRequest(scale=Fraction(2)),
        "encode": FAST,
        "segment_seconds": Fraction(1),
        "chunk": 8,
        "chunk_overlap": 3,
    }
    return UpscaleOptions(**(fields | changes))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SizeRequest(scale=Fraction(1)), (64, 48)),
        (SizeRequest(scale=Fraction(3, 2)), (96, 72)),
        (SizeRequest(scale=Fraction(4)), (256, 192)),
        (SizeRequest(height=108), (144, 108)),
    ],
)
def test_frames_times_and_size_are_as_promised(
    clip: Path, tmp_path: Path, bicubic: Model, size: SizeRequest, expected: tuple[int, int]
) -> None:
    report = upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options(size=size))
    source, result = decode(clip), decode(tmp_path / "out.mp4")
    assert result.size == expected
    assert result.times == source.times
    assert result.end == source.end
    assert report.status == "done"
    assert report.output is not None
    assert report.output.num_frames == 100
    assert not (tmp_path / "out.mp4.dovetail").exists()
    assert [stream.action for stream in report.streams] == ["transcoded", "copied"]


def test_variable_frame_times_are_kept(tmp_path: Path, bicubic: Model) -> None:
    pts = [0, 100, 110, 500, 501, 900, 2000, 2001, 2500, 3000, 3100, 5000]
    source = make_video(tmp_path / "vfr.mkv", pts=pts, time_base=Fraction(1, 1000))
    upscale_file(source, tmp_path / "out.mp4", model=bicubic, options=options(chunk=4, chunk_overlap=2))
    assert decode(tmp_path / "out.mp4").times == [Fraction(time, 1000) for time in pts]


def test_a_preview_has_the_asked_part(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    wanted = options(start_seconds=Fraction(1), duration_seconds=Fraction(1, 2), detect_cuts=False)
    upscale_file(clip, tmp_path / "part.mp4", model=bicubic, options=wanted)
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=options(encode=replace(FAST, crf=0)))
    part = decode(tmp_path / "part.mp4")
    assert part.times == [Fraction(n, 25) for n in range(13)]
    assert part.end == Fraction(1, 2)


def test_a_preview_beyond_the_end_says_so(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    with pytest.raises(NoFramesError, match="no frames from 100 s"):
        upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options(start_seconds=Fraction(100)))
    assert list(tmp_path.iterdir()) == []


def test_chunks_end_at_scene_cuts(clip: Path, tmp_path: Path) -> None:
    model = StandIn()
    report = upscale_file(clip, tmp_path / "out.mp4", model=model, options=options(chunk=20, chunk_overlap=4))
    # 0-20, 16-33 and the cut; 33-53, 49-69, 65-85, 81-100.
    assert model.chunk_lengths == [20, 17, 20, 20, 20, 19]
    assert report.num_cuts == 1


def test_chunks_cross_over_in_the_written_video(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", 14)
    model = StandIn(step=0.5)
    wanted = options(chunk=8, chunk_overlap=4, encode=replace(FAST, crf=0))
    upscale_file(source, tmp_path / "out.mp4", model=model, options=wanted)
    with av.open(str(tmp_path / "out.mp4")) as container:
        luma = [float(frame.to_ndarray()[:96].mean()) for frame in container.decode(video=0)]
    expected = [0, 0, 0, 0, 1 / 16, 3 / 16, 5 / 16, 7 / 16, 9 / 16, 11 / 16, 13 / 16, 15 / 16, 1, 1]
    assert [(value - 16) / 219 for value in luma] == pytest.approx(expected, abs=0.005)


def test_the_comparison_shows_both(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    wanted = options(use_compare_video=True, use_compare_image=True, duration_seconds=Fraction(1))
    report = upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=wanted)
    assert report.output is not None
    assert report.output.compare_video == tmp_path / "out.compare.mp4"
    compared = decode(tmp_path / "out.compare.mp4")
    assert compared.size == (2 * 2 * SIZE[0], 2 * SIZE[1])
    assert compared.times == decode(tmp_path / "out.mp4").times
    with Image.open(tmp_path / "out.compare.png") as image:
        assert image.size == (256, 96)
        halves = [torch.tensor(list(half.tobytes())) for half in _halves(image)]
    assert torch.equal(*halves)  # bicubic against bicubic


# Turned by a quarter either way, upside down, and mirrored: a b u, c d v, x y w.
@pytest.mark.parametrize("turn", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1)], ids=repr)
def test_turned_video_is_compared_as_it_is_seen(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    a, b, c, d = (number << 16 for number in turn)
    source = make_source(tmp_path / "in.mp4", seconds=0.2, display_matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    wanted = options(use_compare_video=True, use_compare_image=True, size=SizeRequest(scale=Fraction(1)))
    upscale_file(source, tmp_path / "out.mp4", model=StandIn(), options=wanted)
    with av.open(str(tmp_path / "out.compare.mp4")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="gray")
    a, b, c, d = turn
    shown = stored.T if c else stored
    shown = shown[:: (b or d), :: (a or c)]
    with Image.open(tmp_path / "out.compare.png") as image:
        assert image.size == shown.shape[::-1]
        painted = np.asarray(image.convert("L"), np.float32)
    width = shown.shape[1] // 2
    # The source is gray, what the stand-in makes is black.
    for picture in (shown.astype(np.float32), painted):
        assert picture[:, :width].mean() > 100
        assert picture[:, width:].mean() < 30


def test_a_long_name_has_room_for_all_that_is_derived_from_it(tmp_path: Path, bicubic: Model) -> None:
    clip = make_video(tmp_path / "clip.mp4", 12)
    wanted = options(use_compare_video=True, use_compare_image=True)
    for stem in ("x" * 243, "x" * 251, "\u00fc" * 125):
        out = tmp_path / f"{stem}.mp4"
        with pytest.raises(KeyError):
            upscale_file(clip, out, model=bicubic, options=wanted, on_progress=_fail_when_joining)
        report = upscale_file(clip, out, model=bicubic, options=wanted, existing="resume")
        assert report.num_resumed_frames == 12
        assert report.output is not None
        assert report.output.compare_video is not None
        assert report.output.compare_image is not None
        assert {path.name for path in tmp_path.iterdir()} == {
            "clip.mp4",
            out.name,
            report.output.compare_video.name,
            report.output.compare_image.name,
        }
        for path in (out, report.output.compare_video, report.output.compare_image):
            path.unlink()


def _fail_when_joining(progress: Progress) -> None:
    if progress.stage == "joining":
        raise KeyError


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("workers.run.folder.fcntl.flock", refuse)
    clip = make_video(tmp_path / "clip.mp4", 12)
    report = upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options())
    assert report.status == "done"
    assert [text for text in report.warnings if "has no locks" in text]


def _halves(image: Image.Image) -> Iterator[Image.Image]:
    width, height = image.size
    for left in (0, width // 2):
        yield image.crop((left, 0, left + width // 2, height))


class SlowModel(StandIn):
    """Takes its time, so that readers would run ahead."""

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        for batch in super().restore(clip, size, plan):
            time.sleep(0.005)
            yield batch


def test_neither_a_slow_model_nor_a_slow_writer_lets_frames_pile_up(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import workers.run.reading as reading
    import workers.run.upscaler as upscaler

    num_read, num_written, ahead = 0, 0, 0
    read_frames, write = reading.read_frames, SegmentWriter.write

    def counted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        nonlocal num_read, ahead
        for frame in read_frames(*args, **kwargs):
            num_read += 1
            ahead = max(ahead, num_read - num_written)
            yield frame

    def slow_write(self: SegmentWriter, *args: Any, **changes: Any) -> None:
        nonlocal num_written
        time.sleep(0.003)
        write(self, *args, **changes)
        num_written += 1

    monkeypatch.setattr(upscaler, "read_frames", counted)
    monkeypatch.setattr(SegmentWriter, "write", slow_write)
    upscale_file(clip, tmp_path / "out.mp4", model=SlowModel(), options=options())
    # Two queues, one frame in each stage's hands, one chunk.
    assert ahead <= 2 * QUEUED_FRAMES + 3 + 8 + 8


def test_an_existing_output_is_replaced_only_on_request(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    wanted = options(duration_seconds=Fraction(1, 5))
    out = tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        upscale_file(clip, out, model=bicubic, options=wanted)
    assert upscale_file(clip, out, model=bicubic, options=wanted, existing="resume").status == "kept"
    assert out.read_bytes() == b"precious"
    assert upscale_file(clip, out, model=bicubic, options=wanted, existing="overwrite").status == "done"
    assert len(decode(out)) == 5


def test_a_missing_folder_is_named(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    with pytest.raises(OutputFolderError, match="does not exist"):
        upscale_file(clip, tmp_path / "no" / "out.mp4", model=bicubic, options=options())


def test_a_bad_input_leaves_nothing_behind(tmp_path: Path, bicubic: Model) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(UnreadableInputError):
        upscale_file(tmp_path / "bad.mp4", tmp_path / "out.mp4", model=bicubic, options=options())
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mp4"]


class FailingModel(StandIn):
    """Fails at its n-th chunk."""

    def __init__(self, num_good: int, error: BaseException) -> None:
        super().__init__()
        self.num_good, self.error = num_good, error

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        if len(self.chunk_lengths) == self.num_good:
            raise self.error
        return super().restore(clip, size, plan)


def run_and_fail(
    clip: Path, out: Path, error: BaseException, num_good: int, existing: Existing = "refuse"
) -> UpscaleReport:
    report = UpscaleReport(source=clip, destination=out)
    model = FailingModel(num_good, error)
    expected = OutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else type(error)
    with pytest.raises(expected):
        upscale_file(clip, out, model=model, options=options(), existing=existing, report=report)
    return report


def test_a_failing_model_keeps_finished_segments_and_says_how_to_go_on(clip: Path, tmp_path: Path) -> None:
    report = run_and_fail(clip, tmp_path / "out.mp4", torch.OutOfMemoryError("too much"), num_good=15)
    assert report.status == "failed"
    assert report.error is not None
    assert report.error.code == "out_of_memory"
    assert "--resume" in report.error.hints[0]
    work = tmp_path / "out.mp4.dovetail"
    assert len(list(work.glob("segment*"))) >= 2  # how far the writer was depends on the threads


def test_a_model_that_fails_at_once_leaves_nothing_behind(clip: Path, tmp_path: Path) -> None:
    report = run_and_fail(clip, tmp_path / "out.mp4", KeyboardInterrupt(), num_good=1)
    assert report.status == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_finished_segments(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    out = tmp_path / "out.mp4"
    wanted = options(encode=replace(FAST, crf=0))
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=wanted)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Segments fit, the final file does not.
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "whole.mp4").stat().st_size // 2, hard))
        report = UpscaleReport(source=clip, destination=out)
        with pytest.raises(Exception, match="cannot write") as caught:
            upscale_file(clip, out, model=bicubic, options=wanted, report=report)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert error_code(caught.value) == DiskFullError.code
    assert report.error is not None
    assert "--resume" in report.error.hints[0]
    assert not out.exists()
    upscale_file(clip, out, model=bicubic, options=wanted, existing="resume")
    assert decode(out) == decode(tmp_path / "whole.mp4")


def test_a_hopelessly_full_disk_is_refused_before_the_work(
    clip: Path, tmp_path: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import workers.run.disk as disk

    class Usage:
        free = 1_000_000

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(DiskFullError, match="1 MB are free"):
        upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options())
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_frame_and_names_the_stages(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    seen: list[Progress] = []
    upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options(), on_progress=seen.append)
    assert list(dict.fromkeys(progress.stage for progress in seen)) == ["planning", "upscaling", "joining"]
    assert [p.num_done for p in seen if p.stage == "upscaling"] == list(range(101))
    assert seen[-1].num_total == 100


def test_the_report_is_json_and_has_what_it_promises(clip: Path, tmp_path: Path, bicubic: Model) -> None:
    report = upscale_file(clip, tmp_path / "out.mp4", model=bicubic, options=options(), use_sha256=True)
    values = json.loads(json.dumps(report.to_json()))
    assert values["version"] == 1
    assert values["input"]["video"]["rate"] == "25"
    assert values["output"]["num_frames"] == 100
    assert len(values["output"]["sha256"]) == 64
    assert values["plan"]["chunk_len"] == 8
    assert values["encoding"]["encoder"] == "libx264"
    assert set(values["stage_seconds"]) == {"read", "model", "write", "join"}
    assert values["num_segments"] > 1
    assert values["peak_host_bytes"] > 0


class Narrow(StandIn):
    """Runs out of memory with whole frames."""

    def __init__(self) -> None:
        super().__init__(shape=FrameShape(scale=2, bytes_per_pixel=1000))

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        assert isinstance(plan, FramePlan)
        if not plan.tile_height:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().restore(clip, size, plan)


def test_a_retry_after_memory_ended_is_reported_once_and_changes_no_chunk(clip: Path, tmp_path: Path) -> None:
    narrow, wide = Narrow(), StandIn()
    report = upscale_file(clip, tmp_path / "narrow.mp4", model=narrow, options=options(chunk=8))
    upscale_file(clip, tmp_path / "wide.mp4", model=wide, options=options(chunk=8))
    assert [text for text in report.warnings if "memory did not suffice (network)" in text] == report.warnings
    assert len(report.warnings) == 1
    assert "1x1 tiles of 128x96" in report.warnings[0]
    assert narrow.chunk_lengths == wide.chunk_lengths
