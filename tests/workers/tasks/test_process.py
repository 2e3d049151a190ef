"""Worker processes that are killed, stopped, left alone by Redis or poisoned by a job."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import pytest

from jobs.records import Job, JobState
from media.sandbox import Sandbox
from pipelines.errors import CheckpointError
from pipelines.loaders import load_model
from tests.redis_server import RedisServer
from tests.workers.made import decode, video_packets
from tests.workers.tasks.farm import Farm, wait_until
from tests.workers.tasks.poisoned_worker import die
from tests.workers.tasks.standins import Door, scripted
from workers.run.upscaler import upscale_file
from workers.scratch import own_folder
from workers.tasks.inputs import upscale_options

# A segment of 32 frames takes about a second.
SLOW = "standin:sleep=0.03,scale=2"
VERY_SLOW = "standin:sleep=1,scale=2"


def is_made(job: Job) -> bool:
    """Whether a segment is just being made."""
    return job.processed_frames > 0


def assert_same_as_one_run(farm: Farm, job: Job, clip: Path, folder: Path) -> None:
    alone = folder / "alone.mp4"
    options = upscale_options(job.spec.options, segment_seconds=farm.settings.segment_seconds)
    upscale_file(clip, alone, model=load_model("standin:scale=2", device="cpu"), options=options)
    assert job.state is JobState.COMPLETED, job.error
    assert video_packets(farm.output(job, folder)) == video_packets(alone)
    assert set(farm.publications(job.id).values()) == {1}


def test_a_job_survives_the_death_of_a_worker(farm: Farm, clip: Path, tmp_path: Path) -> None:
    with farm.process() as first, farm.worker():
        job_id = farm.submit(clip, model=SLOW)
        wait_until(lambda: farm.store.leased_tasks(job_id) >= {"segment:0", "segment:1"})
        first.kill()
        job = farm.wait(job_id)
    assert_same_as_one_run(farm, job, clip, tmp_path)
    assert job.attempts == 2


def test_a_stopped_worker_finishes_its_segment_and_takes_no_other(farm: Farm, clip: Path) -> None:
    with farm.worker():
        job_id = farm.submit(clip, model=SLOW)
        before = farm.wait(job_id, is_made)
    job = farm.store.get(job_id)
    assert job.num_finished_segments in (before.num_finished_segments, before.num_finished_segments + 1)
    assert job.num_finished_segments < job.num_segments
    assert not farm.store.leased_tasks(job_id)
    assert farm.fleet.workers() == []
    assert job.processed_frames == sum(s.num_frames for s in farm.store.finished_segments(job_id))


def test_a_second_signal_gives_the_segment_back(farm: Farm, clip: Path) -> None:
    with farm.process() as worker:
        job_id = farm.submit(clip, model=VERY_SLOW)
        farm.wait(job_id, is_made)
        worker.terminate()
        wait_until(lambda: all(w.is_draining for w in farm.fleet.workers()))
        worker.terminate()
        assert worker.wait(20) == 0  # the segment would take half a minute
    assert_given_back(farm, job_id)


def test_a_worker_whose_time_is_over_gives_its_segment_back(
    make_farm: Callable[..., Farm], clip: Path
) -> None:
    farm = make_farm(drain_seconds=0.2)
    with farm.worker():
        job_id = farm.submit(clip, model=VERY_SLOW)
        farm.wait(job_id, is_made)
    assert_given_back(farm, job_id)


def test_a_worker_that_is_killed_after_it_was_told_to_stop_costs_no_attempt(
    make_farm: Callable[..., Farm], short_clip: Path, tmp_path: Path
) -> None:
    """As when a spot instance is taken away: its notice is shorter than a segment."""
    farm = make_farm(max_attempts=1)
    with farm.process() as spot:
        job_id = farm.submit(short_clip, model="standin:sleep=0.2,scale=2")
        farm.wait(job_id, is_made)
        spot.terminate()
        wait_until(
            lambda: farm.store.client.hget(f"dv:job:{job_id}:attempts", "segment:0") == b"0", seconds=5
        )
        spot.kill()
    with farm.worker():
        job = farm.wait(job_id)
    assert_same_as_one_run(farm, job, short_clip, tmp_path)


def test_what_a_stopping_worker_cannot_finish_is_given_back_before_its_chunk_ends(
    make_farm: Callable[..., Farm], short_clip: Path
) -> None:
    door = Door()
    farm = make_farm(drain_seconds=0)
    with ExitStack() as stack:
        stack.enter_context(farm.worker(load=scripted(door), models=("slow",)))
        job_id = farm.submit(short_clip, model="slow")
        assert door.reached.wait(30)
        leaving = threading.Thread(target=stack.close)
        leaving.start()
        try:
            wait_until(lambda: not farm.store.leased_tasks(job_id))
            assert_given_back(farm, job_id)
            assert leaving.is_alive()
        finally:
            door.open()
            leaving.join()
    assert farm.publications(job_id) == {}


def test_a_segment_that_would_take_too_long_is_given_back_when_the_worker_is_told_to_stop(
    make_farm: Callable[..., Farm], clip: Path
) -> None:
    farm = make_farm(drain_seconds=12)
    with farm.worker():
        job_id = farm.submit(clip, model=VERY_SLOW)  # half a minute for a segment
        farm.wait(job_id, is_made)
        start = time.monotonic()
    assert time.monotonic() - start < 8
    assert_given_back(farm, job_id)


def assert_given_back(farm: Farm, job_id: str) -> None:
    assert not farm.store.leased_tasks(job_id)
    assert "segment:0" in {task.task for task in farm.queue.tasks()}
    assert farm.store.client.hget(f"dv:job:{job_id}:attempts", "segment:0") == b"0"


def test_a_poisonous_job_fails_and_others_do_not(
    make_farm: Callable[..., Farm], short_clip: Path, tmp_path: Path
) -> None:
    farm = make_farm(models=("bicubic", "poison"), max_attempts=1)
    poisoned = farm.submit(short_clip, model="poison")
    with farm.process("tests.workers.tasks.poisoned_worker") as worker:
        assert worker.wait(60) == -signal.SIGKILL
    with farm.worker(load=scripted(die)):  # with one more attempt, this process would die
        healthy = farm.submit(short_clip)
        job = farm.wait(poisoned)
        farm.wait(healthy)
    assert job.error is not None
    assert (job.error.code, job.state) == ("worker_crashed", JobState.FAILED)
    assert decode(farm.output(farm.store.get(healthy), tmp_path)).end == Fraction(20, 25)


def test_a_dead_workers_job_can_be_cancelled(farm: Farm, short_clip: Path) -> None:
    job_id = farm.submit(short_clip)
    begin = {"ttl": farm.settings.lease_ttl, "max_attempts": 4, "worker": "dead", "num_workers": 1}
    assert farm.store.begin(job_id, "plan", "token", **begin).outcome == "ok"  # type: ignore[arg-type]
    assert farm.store.cancel(job_id, ttl=farm.settings.failed_ttl).state is JobState.CANCELLING
    with farm.worker():
        assert farm.wait(job_id).state is JobState.CANCELLED


def test_a_job_survives_a_crash_of_redis(
    own_redis: RedisServer, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    farm = Farm.make(own_redis, tmp_path / "data", sandbox)
    with closing(farm), farm.worker(), farm.worker():
        job_id = farm.submit(clip, model=SLOW)
        farm.wait(job_id, is_made)
        own_redis.kill()
        own_redis.restart()
        job = farm.wait(job_id)
        assert_same_as_one_run(farm, job, clip, tmp_path)


def test_two_workers_share_a_job(farm: Farm, clip: Path, tmp_path: Path) -> None:
    with farm.worker() as first, farm.worker() as second:
        job_id = farm.submit(clip, model=SLOW)
        wait_until(lambda: first.task and second.task and first.task != second.task)
        job = farm.wait(job_id)
    assert_same_as_one_run(farm, job, clip, tmp_path)


def test_a_worker_whose_model_cannot_be_loaded_does_not_start(farm: Farm, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError), farm.worker(models=(str(tmp_path),)):
        pass


def test_a_work_folder_is_ones_own_and_what_the_dead_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "worker-dead").mkdir()
    (tmp_path / "worker-dead" / "lock").touch()
    (tmp_path / "worker-dead" / "segment.mp4").write_bytes(b"half")
    (tmp_path / "other").mkdir()
    with own_folder(tmp_path) as first, own_folder(tmp_path) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second, tmp_path / "other"])
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]


def test_a_file_system_without_locks_has_folders_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("workers.scratch.fcntl.flock", refuse)
    with own_folder(tmp_path) as first, own_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
