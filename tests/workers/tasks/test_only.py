"""Workers that take only some kinds of tasks: together they do what one does, and none does another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.messages import Delivery, Message
from jobs.queue import TaskId, task_of, tasks_for
from jobs.records import Job, JobState
from jobs.store import PLANNED_ANEW
from pipelines.loaders import load_model
from pipelines.model import Model
from tests.workers.tasks.farm import Farm, wait_until
from workers.run.upscaler import upscale_file
from workers.tasks.context import WorkerContext
from workers.tasks.inputs import upscale_options


def refuse_to_load(name: str, **options: Any) -> Model:
    raise AssertionError(f"{name} was loaded")


def done_by(worker: WorkerContext) -> Counter[str]:
    """How many attempts at each kind of task it has finished."""
    return Counter(
        {
            task: count
            for (task, outcome), (count, _) in worker.outcomes.snapshot().items()
            if outcome == "finished"
        }
    )


def waiting(farm: Farm, job_id: str) -> set[str]:
    """Tasks of a job that wait for a worker; none while one works."""
    if any(taken for _, taken in farm.queue.depths().values()):
        return set()
    return {task.task for task in farm.queue.tasks() if task.job_id == job_id}


def assert_made_as_by_one(farm: Farm, job: Job, clip: Path, folder: Path) -> None:
    assert job.state is JobState.COMPLETED, job.error
    alone = folder / "alone.mp4"
    options = upscale_options(job.spec.options, segment_seconds=farm.settings.segment_seconds)
    upscale_file(clip, alone, model=load_model("bicubic", device="cpu"), options=options)
    assert farm.output(job, folder).read_bytes() == alone.read_bytes()


def test_processes_that_share_the_kinds_of_tasks_make_what_one_makes(
    farm: Farm, clip: Path, tmp_path: Path
) -> None:
    with farm.process("cli.main", "worker", "--only", "segment") as maker:
        job_id = farm.submit(clip)
        wait_until(lambda: farm.store.get(job_id).plan is not None and waiting(farm, job_id) == {"plan"})
        (maker_now,) = farm.fleet.workers()
        assert maker_now.only == ("segment",)
        assert farm.store.get(job_id).num_segments == 0
        # Its models are on another machine.
        cheap = [("DOVETAIL_ONLY", "plan,join"), ("DOVETAIL_MODELS", "/nowhere/large")]
        with farm.process(settings=cheap) as other:
            job = farm.wait(job_id)
            assert {worker.only: worker.models for worker in farm.fleet.workers()} == {
                ("segment",): ("bicubic",),
                ("plan", "join"): (),
            }
            for process in (maker, other):
                process.terminate()
                assert process.wait(30) == 0
    assert_made_as_by_one(farm, job, clip, tmp_path)
    assert [model.name for model in farm.fleet.models() if model.is_listed] == ["bicubic"]


def test_each_does_its_own_and_who_makes_no_segments_loads_no_model(farm: Farm, clip: Path) -> None:
    with (
        farm.worker(only=("segment",)) as maker,
        farm.worker(only=("plan",), load=refuse_to_load) as planner,
        farm.worker(only=("join",), load=refuse_to_load) as joiner,
    ):
        job = farm.wait(farm.submit(clip))
        assert {worker.num_workers("join") for worker in (maker, planner, joiner)} == {1}
        wait_until(lambda: done_by(joiner))
    assert job.state is JobState.COMPLETED, job.error
    assert farm.played(job).sound is not None
    # Deciding is the first part of planning.
    assert done_by(maker) == {"plan": 1, "segment": job.num_segments}
    assert done_by(planner).keys() == {"plan"}
    assert done_by(joiner) == {"join": 1}


def test_a_worker_of_all_kinds_decides_and_cuts_at_once(farm: Farm, short_clip: Path) -> None:
    with farm.worker() as worker:
        job = farm.wait(farm.submit(short_clip))
        wait_until(lambda: done_by(worker)["join"])
    assert job.state is JobState.COMPLETED, job.error
    assert done_by(worker) == {"plan": 1, "segment": 1, "join": 1}


def test_a_job_waits_for_the_kind_of_worker_that_is_missing(farm: Farm, clip: Path) -> None:
    job_id = farm.submit(clip)
    with farm.worker(only=("plan", "segment")):
        farm.wait(job_id, lambda job: job.is_planned and job.num_finished_segments == job.num_segments)
        wait_until(lambda: waiting(farm, job_id) == {"join"})
    with farm.worker(only=("join",)):
        assert farm.wait(job_id).state is JobState.COMPLETED


@pytest.mark.parametrize("task", ["plan", "join"])
def test_a_task_in_a_line_of_the_version_before_is_passed_on(task: str, farm: Farm, clip: Path) -> None:
    """There what was begun had one line, and a job that is tried again begins with its plan."""
    job_id = farm.submit(clip)
    others = ("segment",) if task == "plan" else ("segment", "plan")
    with farm.worker(only=others):
        wait_until(lambda: waiting(farm, job_id) == {task})
    messages = farm.queue.messages
    messages.client.flushdb()
    messages.put(Message("normal", f"{job_id} {task}", "begun bicubic", "local"))
    assert not isinstance(
        messages.take(tasks_for([], [task]), hold=farm.settings.heartbeat_timeout), Delivery
    )
    with farm.worker(only=("segment",)) as maker:
        found = wait_until(lambda: taken(farm, task))
    assert found == TaskId(job_id, task)
    assert not done_by(maker)
    assert farm.store.get(job_id).attempts == 1


def taken(farm: Farm, kind: Any) -> TaskId | None:
    found = farm.queue.messages.take(tasks_for([], [kind]), hold=farm.settings.heartbeat_timeout)
    return task_of(found.id) if isinstance(found, Delivery) else None


def test_a_plan_that_a_stopping_worker_gives_back_goes_to_those_who_cut(
    farm: Farm, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.tasks.plan.SLICE_SECONDS", 0)
    job_id = farm.submit(long_clip)
    with farm.worker(only=("segment",)):
        wait_until(lambda: waiting(farm, job_id) == {"plan"})
    with farm.worker(only=("plan",), drain_seconds=0) as planner:
        monkeypatch.setattr(planner.store, "append_plan", lambda *_, **__: planner.stopping.stop_now())
        wait_until(lambda: planner.stopping.is_over)
    assert taken(farm, "plan") == TaskId(job_id, "plan")


def test_a_job_that_another_version_has_planned_is_made_anew_and_says_so(
    make_farm: Callable[..., Farm], short_clip: Path, tmp_path: Path
) -> None:
    farm = make_farm(max_attempts=1)
    job_id = farm.submit(short_clip)
    with farm.worker(only=("segment",)):
        job = farm.wait(job_id, lambda job: job.plan is not None and waiting(farm, job_id) == {"plan"})
    ttl = timedelta(minutes=1)
    begun = farm.store.begin(job_id, "plan", "token", ttl=ttl, max_attempts=4, worker="old", num_workers=1)
    assert begun.outcome == "ok"
    farm.store.append_plan(
        job_id, "token", first_index=0, segments=['{"detail": {}}'], is_complete=True, total_frames=20
    )
    farm.store.end(job_id, "plan", "token", "finished", worker="old", cancelled_ttl=timedelta(minutes=1))
    assert farm.store.advance(job_id, window=1).segments == (0,)
    farm.queue.enqueue(job.spec, "segment:0")
    with farm.worker():
        made = farm.wait(job_id)
        undisturbed = farm.wait(farm.submit(short_clip))
    assert (made.state, made.error, PLANNED_ANEW in made.warnings) == (JobState.COMPLETED, None, True)
    same = [farm.output(job, tmp_path).read_bytes() for job in (made, undisturbed)]
    assert same[0] == same[1]
