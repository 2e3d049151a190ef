"""Segments that are made alone are those of a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from media import MediaInfo, VideoReader
from media.sandbox import SandboxedReader
from media.sizes import SizeRequest
from pipelines.loaders import load_model
from pipelines.model import Model
from tests.media.captioned import by_time, captions_in, write_captioned
from tests.media.clips import Clip, field_pictures, interlace, moving_pictures, write_clip
from tests.pipelines.tiny import save_nano
from tests.thorough import sized
from tests.workers.made import make_video, options
from tests.workers.segments.runs import (
    ChunkTintModel,
    check_segments,
    join,
    make,
    plan_all,
    run_whole,
)
from workers.run.decisions import decide_run
from workers.segments.description import describe_run
from workers.segments.making import (
    make_segment,
)
from workers.segments.planning import PlannerState, plan_source

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tinting() -> Model:
    return ChunkTintModel()


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network with random weights, whose frames depend on their chunk."""
    return load_model(str(save_nano(tmp_path_factory.mktemp("nano"))), device="cpu", dtype="float32")


CHUNKINGS = [(8, 3), (1, 0), (30, 15), (8, 0), (7, 3), (8, 7)]


@pytest.mark.parametrize("chunking", sized(CHUNKINGS, brief=CHUNKINGS[:3]))
def test_each_segment_and_their_join_are_those_of_a_whole_run(
    clip: Path, tmp_path: Path, tinting: Model, chunking: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(chunk=chunking[0], chunk_overlap=chunking[1])
    plans = check_segments(clip, tmp_path, tinting, wanted, monkeypatch)
    assert len(plans) > 2


@pytest.mark.parametrize("chunk_overlap", sized([3, 0], brief=[3]))
def test_cuts_anywhere_give_the_same_segments(
    tmp_path: Path, tinting: Model, chunk_overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At the end of a full chunk, one frame after another cut, at the end of a segment, before the last frame.
    source = make_video(tmp_path / "cuts.mp4", 70, cuts=(8, 13, 33, 34, 46, 69))
    wanted = options(chunk_overlap=chunk_overlap)
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert {cut for plan in plans for cut in plan.cuts} >= {8, 33, 34}


def test_a_scene_cut_at_a_border_needs_no_frame_of_the_scene_before(tmp_path: Path, tinting: Model) -> None:
    source = make_video(tmp_path / "cut.mp4", 30, cuts=(14,))
    _, plans = plan_all(source, tinting, options())
    first, second = plans[:2]
    assert (first.end_frame, first.read_stop) == (14, 14)
    assert second.start is not None
    assert (second.start.chunk_frame, second.start.read_frame) == (14, 13)


class PacketCountingReader(VideoReader):
    """Counts the packets that it reads."""

    def __init__(self, info: MediaInfo, **options: Any) -> None:
        super().__init__(info, on_packet=self._count, **options)
        self.num_packets = 0

    def _count(self) -> None:
        self.num_packets += 1


@pytest.mark.parametrize("name", ["deep.mp4", "deep.ts"])
def test_a_segment_is_read_from_the_packet_that_its_plan_names(
    tmp_path: Path, tinting: Model, name: str
) -> None:
    source = make_video(tmp_path / name, 100)
    wanted = options(start_seconds=Fraction(1))
    decided, plans = plan_all(source, tinting, wanted)
    assert len(plans) > 4
    assert plans[0].start is None
    assert [plan.entry for plan in plans[1:]] == [plan.next_entry for plan in plans[:-1]]
    for plan in plans:
        assert plan.entry is not None
        first = plan.start.read_frame if plan.start else 0
        with PacketCountingReader(decided.info, start_seconds=Fraction(1)) as reader:
            make_segment(reader, tinting, decided, plan, tmp_path / "made.mp4", options=wanted)
        # Keyframes are ten frames apart, and the decoder gives a frame some packets late.
        assert reader.num_packets <= plan.read_stop - first + 2 * 10


def test_planning_goes_on_at_the_packet_where_it_stopped(tmp_path: Path, tinting: Model) -> None:
    source = make_video(tmp_path / "deep.mp4", 100)
    decided, plans = plan_all(source, tinting, options())
    assert plans[2].next_state is not None
    state = PlannerState.model_validate_json(plans[2].next_state.model_dump_json())
    with PacketCountingReader(decided.info) as reader:
        rest = list(plan_source(reader, decided.plan, options=options(), resume=state))
    assert rest == plans[3:]
    assert state.resume is not None
    assert reader.num_packets <= 100 - state.resume.read_frame + 2 * 10


def test_variable_frame_times_give_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pts = [0, 100, 110, 500, 501, 900, 2000, 2001, 2500, 3000, 3100, 5000]
    source = make_video(tmp_path / "vfr.mkv", pts=pts, time_base=Fraction(1, 1000))
    plans = check_segments(source, tmp_path, tinting, options(chunk=4, chunk_overlap=2), monkeypatch)
    assert len(plans) > 2


def test_interlaced_sources_give_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = interlace(field_pictures(60), is_top_first=True)
    source = write_clip(tmp_path / "a.ts", fields, Clip(codec="mpeg2video", field_order="tff", gop=6))
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    assert plans[-1].end_frame == 60


def test_captions_give_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = write_captioned(tmp_path / "a.ts", 30)
    plans = check_segments(tmp_path / "a.ts", tmp_path, tinting, options(), monkeypatch)
    assert len(plans) > 1
    assert captions_in(tmp_path / "joined.mp4") == by_time(captions)


def test_a_source_with_one_keyframe_and_b_frames_gives_the_same_segments(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Clip(gop=1000, num_b_frames=2, options={"preset": "ultrafast", "x264-params": "keyint=infinite"})
    source = write_clip(tmp_path / "long.mp4", moving_pictures(50), shape)
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    assert len(plans) > 2


def test_a_preview_gives_the_same_segments(
    clip: Path, tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(start_seconds=Fraction(1, 2), duration_seconds=Fraction(201, 100))
    plans = check_segments(clip, tmp_path, tinting, wanted, monkeypatch)
    assert plans[-1].end_pts * Fraction(1, 12800) == Fraction(201, 100)
    assert len(plans) > 2


def test_segments_of_one_frame_are_the_same(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "short.mp4", 6)
    wanted = options(chunk=1, chunk_overlap=0, segment_seconds=Fraction(1, 25))
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert [plan.num_frames for plan in plans] == [1] * 6


def test_a_last_segment_of_one_frame_is_the_same(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "long.mp4", 33)
    wanted = options(chunk_overlap=0, segment_seconds=Fraction(16, 25))
    plans = check_segments(source, tmp_path, tinting, wanted, monkeypatch)
    assert [plan.num_frames for plan in plans] == [16, 16, 1]


def test_a_network_with_overlapping_chunks_gives_the_same_segments(
    tmp_path: Path, nano: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "clip.mp4", 30, size=(32, 32), cuts=(13,))
    wanted = options(size=SizeRequest(scale=Fraction(4)), segment_seconds=Fraction(2, 5))
    plans = check_segments(source, tmp_path, nano, wanted, monkeypatch)
    assert len(plans) > 1


MAKES_ODD_SEGMENTS = """
    import json, sys
    from pathlib import Path
    from media import VideoReader, probe
    from workers.segments.description import rebuild_run
    from pipelines.loaders import load_model
    from workers.segments.making import make_segment
    from workers.segments.planning import SegmentPlan

    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    described = json.loads((folder / "job.json").read_text())
    model = load_model("lanczos", device="cpu")
    with VideoReader(probe(source)) as reader:
        options, job = rebuild_run(described["job"], reader.info, reader, model=model)
        for plan in map(SegmentPlan.model_validate, described["plans"]):
            if plan.index % 2:
                make_segment(reader, model, job, plan, folder / f"{plan.index}.mp4", options=options)
"""


def test_segments_of_two_processes_join_to_the_whole_run(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wanted = load_model("lanczos", device="cpu"), options()
    whole = run_whole(clip, tmp_path, model, wanted, monkeypatch)
    job, plans = plan_all(clip, model, wanted)
    described = {
        "job": describe_run(job, options=wanted, model=model),
        "plans": [plan.model_dump(mode="json") for plan in plans],
    }
    (tmp_path / "job.json").write_text(json.dumps(described))
    done = subprocess.run(
        [sys.executable, "-X", "forked", "-c", textwrap.dedent(MAKES_ODD_SEGMENTS), str(clip), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    for plan in plans[::2]:
        make(clip, model, job, plan, tmp_path / f"{plan.index}.mp4", wanted)
    assert join(job, plans, tmp_path, wanted).read_bytes() == whole.path.read_bytes()


def test_a_sandboxed_reader_plans_and_makes_the_same_segments(
    clip: Path, tmp_path: Path, tinting: Model
) -> None:
    wanted = options()
    job, plans = plan_all(clip, tinting, wanted)
    with SandboxedReader(job.info) as reader:
        assert decide_run(job.info, reader, model=tinting, options=wanted) == job
        assert list(plan_source(reader, job.plan, options=wanted)) == plans
        make_segment(reader, tinting, job, plans[2], tmp_path / "boxed.mp4", options=wanted)
    make(clip, tinting, job, plans[2], tmp_path / "plain.mp4", wanted)
    assert (tmp_path / "boxed.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()


def test_damage_gives_the_same_segments_and_is_told_by_the_segment_that_has_it(
    tmp_path: Path, tinting: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "damaged.mp4", 60)
    with av.open(str(source)) as container:
        position = [packet.pos for packet in container.demux(video=0)][45]
    with source.open("rb+") as file:
        file.seek(position)
        file.write(bytes(60))
    plans = check_segments(source, tmp_path, tinting, options(), monkeypatch)
    job, _ = plan_all(source, tinting, options())
    told = [make(source, tinting, job, plan, tmp_path / "one.mp4", options()).warnings for plan in plans]
    assert told[0] == ()
    assert any("damaged" in warning for warnings in told for warning in warnings)
