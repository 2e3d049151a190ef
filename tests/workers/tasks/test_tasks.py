"""Jobs from plan to join, by a worker in this process."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.errors import StorageError
from jobs.records import JobState
from jobs.specs import Priority
from media import MediaInfo
from media.growing import GrowingStream, SegmentIndex, index_segment
from media.sandbox import sandboxed_probe
from pipelines.loaders import load_model
from pipelines.model import Model
from service.jobs.schemas import JobSchema
from tests.media import sandbox_acts as acts
from tests.media.captioned import by_time, captions_in, write_captioned
from tests.media.spherical import vexu, write_with_box
from tests.workers.made import decode, make_video, video_packets
from tests.workers.tasks.farm import Farm, wait_until
from tests.workers.tasks.standins import SHAPE, Door, Memory, scripted
from workers.input_cache import CachedInput
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file
from workers.tasks import failures, inputs, plan
from workers.tasks.inputs import upscale_options


def by_command_line(farm: Farm, job_id: str, clip: Path, destination: Path) -> Path:
    """The same as one run of `dovetail upscale`."""
    asked = farm.store.get(job_id).spec.options
    options = upscale_options(asked, segment_seconds=farm.settings.segment_seconds)
    model = load_model(asked.model or "bicubic", device="cpu")
    upscale_file(clip, destination, model=model, options=options)
    return destination


def test_a_job_gives_the_bytes_of_the_command_line(farm: Farm, clip: Path, tmp_path: Path) -> None:
    with farm.worker():
        job_id = farm.submit(clip)
        job = farm.wait(job_id)
    assert job.state is JobState.COMPLETED
    output = farm.output(job, tmp_path)
    alone = by_command_line(farm, job_id, clip, tmp_path / "alone.mp4")
    assert video_packets(output) == video_packets(alone)
    assert output.read_bytes() == alone.read_bytes()  # sound, chapters and all


def test_a_job_of_a_trained_model_gives_the_bytes_of_the_command_line(
    make_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    farm = make_farm(models=("dovetail-dit-nano",))
    clip = make_video(tmp_path / "clip.mp4", 40)
    with farm.worker():
        job_id = farm.submit(clip, model="dovetail-dit-nano", scale=2)
        job = farm.wait(job_id)
    assert job.num_segments > 1
    alone = by_command_line(farm, job_id, clip, tmp_path / "alone.mp4")
    assert video_packets(farm.output(job, tmp_path)) == video_packets(alone)
    shape = farm.fleet.models()[0].shape
    assert shape is not None
    assert shape["native_scale"] == 4


@pytest.mark.parametrize(("container", "codec"), [("mkv", "auto"), ("webm", "auto"), ("webm", "vp9")])
def test_a_job_of_another_container_gives_the_bytes_of_the_command_line(
    container: str, codec: str, farm: Farm, clip: Path, tmp_path: Path
) -> None:
    with farm.worker():
        job_id = farm.submit(clip, container=container, codec=codec)
        job = farm.wait(job_id)
    assert job.output is not None
    assert job.output.key.endswith(f".{container}")
    alone = by_command_line(farm, job_id, clip, tmp_path / f"alone.{container}")
    assert farm.output(job, tmp_path).read_bytes() == alone.read_bytes()


def test_captions_come_along_and_what_the_container_cannot_say_is_warned_of(
    farm: Farm, tmp_path: Path
) -> None:
    captions = write_captioned(tmp_path / "a.ts", 12)
    with farm.worker():
        captioned = farm.wait(farm.submit(tmp_path / "a.ts"))
        fisheye = write_with_box(tmp_path / "b.mp4", vexu(b"fish"))
        odd = farm.wait(farm.submit(fisheye, container="mkv"))
    assert captions_in(farm.output(captioned, tmp_path)) == by_time(captions)
    assert captioned.warnings == ()
    (words,) = odd.warnings
    assert "spherical" in words


def test_options_of_a_job_are_followed(farm: Farm, clip: Path, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(clip, height=60, start_seconds=0.5, duration_seconds=1, codec="h265"))
    video = decode(farm.output(job, tmp_path))
    assert video.size == (80, 60)
    assert video.end == Fraction(1)
    decided = JobSchema.of(job, None).decided
    assert decided is not None
    assert decided.model_dump() == {
        **{"model": "bicubic", "width": 80, "height": 60, "codec": "h265", "encoder": "libx265"},
        **{"pix_fmt": "yuv420p", "crf": 20, "preset": "ultrafast"},
    }


def test_a_report_tells_what_was_done_and_no_place_on_the_server(farm: Farm, clip: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(clip))
    assert job.output is not None
    text = farm.storage.get_bytes(job.output.report_key).decode()
    report = json.loads(text)
    assert report["source"] == "holiday.mp4"
    assert report["output"]["sha256"] == job.output.sha256
    assert [segment["num_frames"] for segment in report["segments"]] == [
        segment.num_frames for segment in farm.finished_segments(job)
    ]
    assert report["model"]["name"] == "bicubic"
    assert str(farm.settings.data_dir) not in text


def test_segments_and_sound_can_be_streamed(farm: Farm, clip: Path, tmp_path: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(clip))
    stored = farm.played(job).sound
    assert stored is not None
    sound = tmp_path / "sound.mp4"
    sound.write_bytes(farm.storage.get_bytes(stored.key))
    index = SegmentIndex.from_dict(json.loads(farm.storage.get_bytes(stored.index_key)))
    assert index == index_segment(sound)
    assert sound.stat().st_size >= stored.size_bytes == index.end_offset
    stream = GrowingStream(index)
    pieces = [
        piece
        for segment in farm.finished_segments(job)
        for piece in stream.add_segment(SegmentIndex.from_dict(segment.boxes))
    ]
    assert {piece.source for piece in pieces} == {"video", "audio"}


def test_previews_show_a_frame_before_and_after(farm: Farm, clip: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(clip))
    for segment in farm.finished_segments(job):
        assert segment.preview_key is not None
        with Image.open(io.BytesIO(farm.storage.get_bytes(segment.preview_key))) as image:
            assert image.size == (2 * 256, 192)


def test_progress_grows_to_all_frames(farm: Farm, clip: Path) -> None:
    with farm.worker():
        job = farm.wait(farm.submit(clip))
    assert (job.processed_frames, job.total_frames, job.progress) == (100, 100, 100)
    speeds = farm.fleet.speeds()
    assert speeds["bicubic"] > 0
    assert farm.fleet.totals()["frames"] == 100
    assert {"read", "write", "store"} <= set(farm.fleet.stage_seconds())


def test_planning_in_slices_finds_the_segments_of_one_go(
    farm: Farm, long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SLICE_SECONDS", 0.0)
    with farm.worker():
        job_id = farm.submit(long_clip)
        job = farm.wait(job_id)
    assert job.num_segments == 12
    alone = by_command_line(farm, job_id, long_clip, tmp_path / "alone.mp4")
    assert video_packets(farm.output(job, tmp_path)) == video_packets(alone)


def test_a_segment_is_made_while_later_ones_are_not_planned(farm: Farm, long_clip: Path) -> None:
    door = Door()
    with farm.worker(load=scripted(door), models=("bicubic", "door")):
        job_id = farm.submit(long_clip, model="door")
        assert door.reached.wait(60)
        job = farm.store.get(job_id)
        door.open()
        assert not job.is_planned
        assert 3 * 2 <= job.num_segments < 12
        assert farm.wait(job_id).num_finished_segments == 12


def test_repeated_messages_are_harmless(farm: Farm, clip: Path) -> None:
    job_id = farm.submit(clip)
    for _ in range(2):
        farm.queue.enqueue(farm.store.get(job_id).spec, "plan")
    with farm.worker():
        farm.wait(job_id, lambda job: job.num_segments > 1)
        for index in (0, 0, 1):
            farm.queue.enqueue(farm.store.get(job_id).spec, f"segment:{index}")
        farm.queue.enqueue(farm.store.get(job_id).spec, "join")
        job = farm.wait(job_id)
        farm.queue.enqueue(farm.store.get(job_id).spec, "join")
        farm.queue.enqueue(farm.store.get(job_id).spec, "segment:0")
        wait_until(lambda: not farm.queue.tasks())
    assert job.state is JobState.COMPLETED
    assert set(farm.publications(job_id).values()) == {1}
    assert farm.store.get(job_id).output == job.output


def test_a_short_job_ends_before_a_long_one_that_came_first(
    farm: Farm, short_clip: Path, long_clip: Path
) -> None:
    long_id, short_id = farm.submit(long_clip), farm.submit(short_clip)
    with farm.worker():
        long_job, short_job = farm.wait(long_id), farm.wait(short_id)
    assert long_job.completed_at is not None
    assert short_job.completed_at is not None
    assert short_job.completed_at < long_job.completed_at


def test_a_job_of_high_priority_goes_first(farm: Farm, short_clip: Path, long_clip: Path) -> None:
    ids = [
        farm.submit(clip, priority=priority)
        for clip, priority in (
            (short_clip, Priority.LOW),
            (short_clip, Priority.NORMAL),
            (long_clip, Priority.HIGH),
        )
    ]
    with farm.worker():
        ends = [farm.wait(job_id).completed_at for job_id in ids]
    assert sorted(ends, reverse=True) == ends  # type: ignore[type-var]


def test_a_queued_job_is_cancelled_at_once(farm: Farm, short_clip: Path) -> None:
    job_id = farm.submit(short_clip)
    assert farm.store.cancel(job_id, ttl=farm.settings.failed_ttl).state is JobState.CANCELLED
    with farm.worker():
        wait_until(lambda: not farm.queue.tasks())
    assert farm.store.get(job_id).started_at is None


def test_a_running_job_stops_when_it_is_cancelled(farm: Farm, long_clip: Path) -> None:
    with farm.worker():
        job_id = farm.submit(long_clip, model="standin:sleep=1,scale=2")
        farm.wait(job_id, lambda job: job.processed_frames > 0)
        job = farm.store.cancel(job_id, ttl=farm.settings.failed_ttl)
        assert job.state is JobState.CANCELLING
        job = farm.wait(job_id, seconds=10)  # its segment would take half a minute
    assert job.state is JobState.CANCELLED
    assert job.num_finished_segments == 0
    assert not list(farm.storage.list(f"jobs/{job_id}/segments/"))


@pytest.mark.parametrize(
    "call", ["media.sandbox._calls._probe", "workers.tasks.plan.extract", "media.sandbox._calls._join"]
)
def test_cancelling_ends_what_runs_in_the_sandbox(
    farm: Farm, clip: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    begun = threading.Event()

    def start(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        return started(*args, **kwargs)

    started = farm.sandbox.start
    monkeypatch.setattr(call, acts.wait_for_ever)
    with farm.worker():
        job_id = farm.submit(clip)
        if call.endswith("_probe"):
            monkeypatch.setattr(farm.sandbox, "start", start)
            assert begun.wait(30)
        else:
            is_late = call.endswith("_join")
            farm.wait(
                job_id,
                lambda job: (
                    job.num_segments > 0 and (not is_late or job.num_finished_segments == job.num_segments)
                ),
            )
            time.sleep(0.5)
        farm.store.cancel(job_id, ttl=farm.settings.failed_ttl)
        job = farm.wait(job_id, seconds=10)  # the call itself would take ten minutes
    assert job.state is JobState.CANCELLED


def test_a_retry_goes_on_with_finished_segments(farm: Farm, clip: Path, tmp_path: Path) -> None:
    def fail_late(number: int, _: object) -> None:
        if number > 10:
            raise ValueError("stand-in for a bug")

    with farm.worker(load=scripted(fail_late), models=("bicubic", "fails"), max_attempts=1):
        job_id = farm.submit(clip, model="fails")
        failed = farm.wait(job_id)
    assert failed.state is JobState.FAILED
    assert 0 < failed.num_finished_segments < failed.num_segments
    before = {segment.index: segment.key for segment in farm.store.finished_segments(job_id)}
    farm.store.retry(job_id)
    farm.queue.enqueue(farm.store.get(job_id).spec, "plan")
    with farm.worker(load=scripted(lambda *_: None), models=("bicubic", "fails")):
        job = farm.wait(job_id)
    assert job.state is JobState.COMPLETED
    after = {segment.index: segment.key for segment in farm.finished_segments(job)}
    assert before.items() <= after.items()
    assert decode(farm.output(job, tmp_path)).end == 4


def test_lost_messages_are_found_by_the_reconciler(farm: Farm, clip: Path) -> None:
    door = Door()
    with farm.worker(load=scripted(door), models=("bicubic", "door")):
        job_id = farm.submit(clip, model="door")
        assert door.reached.wait(60)
        farm.queue.messages.client.flushdb()
        door.open()
        job = farm.wait(job_id)
    assert job.state is JobState.COMPLETED
    assert set(farm.publications(job_id).values()) == {1}


def test_an_attempt_that_was_taken_over_leaves_nothing(farm: Farm, short_clip: Path) -> None:
    door = Door()
    with farm.worker(load=scripted(door), models=("bicubic", "door")):
        job_id = farm.submit(short_clip, model="door")
        assert door.reached.wait(60)
        # Another attempt takes the lease.
        leases = f"dv:job:{job_id}:leases"
        seconds, _ = farm.store.client.time()
        farm.store.client.hset(leases, "segment:0", f"other {1000 * (seconds + 3600)}")
        door.open()
        wait_until(lambda: not farm.queue.tasks())
        assert farm.store.get(job_id).num_finished_segments == 0
        assert not list(farm.storage.list(f"jobs/{job_id}/segments/"))
        farm.store.client.hdel(leases, "segment:0")  # it dies
        job = farm.wait(job_id)
    assert job.state is JobState.COMPLETED
    assert len(list(farm.storage.list(f"jobs/{job_id}/segments/"))) == 1
    assert set(farm.publications(job_id).values()) == {1}


def test_a_job_runs_on_s3_and_leaves_only_the_shared_cache(
    make_farm: Callable[..., Farm], s3_url: str, clip: Path, tmp_path: Path
) -> None:
    farm = make_farm(storage_url=s3_url)
    with farm.worker(), farm.worker():
        job_id = farm.submit(clip)
        job = farm.wait(job_id)
    alone = by_command_line(farm, job_id, clip, tmp_path / "alone.mp4")
    assert farm.output(job, tmp_path).read_bytes() == alone.read_bytes()
    (left,) = (tmp_path / "data" / "work").iterdir()
    assert [path.name for path in left.glob("*/*")] == ["0"]  # the clip is one block


def test_an_outage_while_a_source_is_read_costs_no_attempt(
    make_farm: Callable[..., Farm], s3_url: str, short_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, outages = CachedInput.read, iter([True, True])

    def read_later(content: CachedInput, offset: int, length: int) -> bytes:
        if next(outages, False):
            raise StorageError("the storage is away")
        return read(content, offset, length)

    monkeypatch.setattr(CachedInput, "read", read_later)
    farm = make_farm(storage_url=s3_url, max_attempts=1)
    with farm.worker():
        job = farm.wait(farm.submit(short_clip))
    assert job.state is JobState.COMPLETED, job.error
    assert next(outages, None) is None
    assert job.warnings == ()


def test_a_source_that_has_changed_is_looked_into_anew(farm: Farm, short_clip: Path, long_clip: Path) -> None:
    with farm.worker() as context:
        lengths = []
        for clip in (short_clip, long_clip):
            farm.storage.put_file("uploads/clip", clip)
            info = context.inputs.get("uploads/clip", info_key="jobs/1/source.json")
            lengths.append(info.duration_seconds)
    assert lengths == [Fraction(20, 25), Fraction(12 * 32, 25)]


def test_a_source_is_looked_into_once_for_all_workers(
    farm: Farm, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[Path] = []

    def probe(path: Path, **options: Any) -> MediaInfo:
        probed.append(path)
        return sandboxed_probe(path, **options)

    monkeypatch.setattr(inputs, "sandboxed_probe", probe)
    with farm.worker(), farm.worker():
        job = farm.wait(farm.submit(long_clip))
    assert job.state is JobState.COMPLETED
    assert len(probed) == 1


def test_too_little_memory_makes_the_plan_smaller(farm: Farm, short_clip: Path, tmp_path: Path) -> None:
    memory = Memory(2)
    with farm.worker(load=scripted(memory, shape=SHAPE), models=("bicubic", "large")):
        job = farm.wait(farm.submit(short_clip, model="large", scale=4))
    assert job.state is JobState.COMPLETED, job.error
    assert len(memory.plans) == 3
    assert decode(farm.output(job, tmp_path)).size == (256, 192)
    assert job.attempts == 1


def test_a_job_fails_when_the_smallest_plan_does_not_fit(farm: Farm, short_clip: Path) -> None:
    memory = Memory(1000)
    with farm.worker(load=scripted(memory, shape=SHAPE), models=("bicubic", "large")):
        job = farm.wait(farm.submit(short_clip, model="large", scale=4))
    assert job.error is not None
    assert job.error.code == "out_of_memory"
    assert job.attempts == 2


def test_a_full_storage_makes_a_job_wait_and_costs_no_attempt(
    farm: Farm, short_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FULL_DELAY", failures.timedelta(milliseconds=100))
    with farm.worker() as context:
        context.storage._min_free_bytes = 1 << 60
        job_id = farm.submit(short_clip)
        farm.wait(job_id, lambda job: failures.FULL_WARNING in job.warnings)
        context.storage._min_free_bytes = 0
        job = farm.wait(job_id)
    assert job.state is JobState.COMPLETED
    assert job.attempts == 1


def test_an_input_that_is_no_video_fails_at_once(farm: Farm, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all " * 100)
    with farm.worker():
        job = farm.wait(farm.submit(text))
    assert job.error is not None
    assert job.error.code == "unreadable_input"
    assert str(farm.settings.data_dir) not in job.error.message
    assert job.attempts == 1


def test_an_unexpected_error_is_tried_again(
    farm: Farm, short_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_FIRST_BACKOFF", failures.timedelta(milliseconds=50))

    def fail_twice(number: int, _: object) -> None:
        if number <= 2:
            raise ValueError("secret")

    with farm.worker(load=scripted(fail_twice), models=("bicubic", "fails")):
        job = farm.wait(farm.submit(short_clip, model="fails"))
    assert job.state is JobState.COMPLETED
    assert job.attempts == 3


def test_an_unexpected_error_ends_the_job_when_no_attempts_are_left(
    farm: Farm, short_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_FIRST_BACKOFF", failures.timedelta(milliseconds=50))

    def fail(number: int, _: object) -> None:
        raise ValueError("secret")

    with farm.worker(load=scripted(fail), models=("bicubic", "fails")):
        job = farm.wait(farm.submit(short_clip, model="fails"))
    assert job.error is not None
    assert job.error.code == "internal_error"
    assert "secret" not in job.error.message
    assert "4 times" in job.error.message


def test_a_job_waits_for_a_worker_that_has_its_model(farm: Farm, short_clip: Path) -> None:
    loaded: list[str] = []

    def load(name: str, **options: object) -> Model:
        loaded.append(name)
        return load_model(name, device="cpu")

    waiting = farm.submit(short_clip, model="lanczos", priority=Priority.HIGH)
    with farm.worker(load=load):
        assert farm.wait(farm.submit(short_clip, model="bicubic")).state is JobState.COMPLETED
        assert farm.store.get(waiting).state is JobState.QUEUED
    assert set(loaded) == {"bicubic"}
    with farm.worker(models=("lanczos",)):
        assert farm.wait(waiting).state is JobState.COMPLETED


def test_options_are_exact() -> None:
    from jobs.options import JobOptions

    options = upscale_options(JobOptions(scale=1.1, start_seconds=0.1), segment_seconds=2.5)
    assert isinstance(options, UpscaleOptions)
    assert options.size.scale == Fraction(11, 10)
    assert (options.start_seconds, options.segment_seconds) == (Fraction(1, 10), Fraction(5, 2))
