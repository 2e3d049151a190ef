"""Tasks by name, and what is known of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.messages import Delivery
from jobs.queue import TASK_KINDS, JobQueue, TaskId, TaskKind, kind_to_take, task_of, tasks_for
from jobs.specs import Priority
from tests.jobs.made import make_spec

HOLD = timedelta(seconds=60)


def take(queue: JobQueue, *models: str, only: tuple[TaskKind, ...] = TASK_KINDS) -> TaskId | None:
    """The next task for a worker that has these models and takes these kinds of tasks."""
    found = queue.messages.take(tasks_for(models, only), hold=HOLD)
    return task_of(found.id) if isinstance(found, Delivery) else None


def test_all_messages_are_known_wherever_they_are(queue: JobQueue) -> None:
    urgent, usual, idle = (make_spec(priority=priority) for priority in Priority)
    queue.enqueue(urgent, "plan")
    assert take(queue) == TaskId(urgent.id, "plan")
    queue.enqueue(usual, "segment:7")
    queue.enqueue(idle, "join")
    queue.enqueue(idle, "segment:3", delay=timedelta(minutes=1))
    queue.enqueue(usual, "fetch")
    assert queue.tasks() == {
        TaskId(urgent.id, "plan"),
        TaskId(usual.id, "segment:7"),
        TaskId(idle.id, "join"),
        TaskId(idle.id, "segment:3"),
        TaskId(usual.id, "fetch"),
    }
    assert queue.depths() == {Priority.HIGH: (0, 1), Priority.NORMAL: (1, 0), Priority.LOW: (2, 0)}


@pytest.mark.parametrize("task", ["plan", "join", "segment:12", "fetch"])
def test_any_task_can_be_enqueued_by_its_name(queue: JobQueue, task: str) -> None:
    spec = make_spec()
    queue.enqueue(spec, task)
    assert queue.tasks() == {TaskId(spec.id, task)}


def test_new_jobs_and_begun_ones_take_turns(queue: JobQueue) -> None:
    new, begun = [make_spec() for _ in range(3)], [make_spec() for _ in range(3)]
    for spec in new:
        queue.enqueue(spec, "plan")
    queue.enqueue(begun[0], "plan", is_decided=True)
    queue.enqueue(begun[1], "segment:0")
    queue.enqueue(begun[2], "join")
    taken = [task.job_id for _ in range(6) if (task := take(queue))]
    assert taken == [spec.id for pair in zip(new, begun, strict=True) for spec in pair]


def test_a_source_is_no_workers_work(queue: JobQueue) -> None:
    queue.enqueue(make_spec(), "fetch")
    assert take(queue) is None


def test_a_task_goes_to_workers_that_have_the_jobs_model(queue: JobQueue) -> None:
    large = make_spec(model="large", priority=Priority.HIGH)
    small = make_spec(model="small", priority=Priority.LOW)
    queue.enqueue(large, "plan")
    queue.enqueue(large, "segment:1")
    queue.enqueue(small, "plan")
    assert take(queue, "small") == TaskId(small.id, "plan")
    assert take(queue, "small") is None
    assert {take(queue, "other", "large"), take(queue, "large")} == {
        TaskId(large.id, "plan"),
        TaskId(large.id, "segment:1"),
    }


def test_what_follows_a_colon_is_no_part_of_the_models_name(queue: JobQueue) -> None:
    spec = make_spec(model="standin:sleep=0.1")
    queue.enqueue(spec, "plan")
    assert take(queue, "bicubic", "standin:") == TaskId(spec.id, "plan")


def test_a_job_without_a_model_is_anybodys(queue: JobQueue) -> None:
    spec = make_spec()
    queue.enqueue(spec, "plan")
    assert take(queue, "bicubic") == TaskId(spec.id, "plan")


def test_each_kind_of_task_goes_to_those_who_take_it(queue: JobQueue) -> None:
    new, begun = make_spec(model="large"), make_spec(model="large")
    queue.enqueue(begun, "join")
    queue.enqueue(begun, "plan", is_decided=True)
    queue.enqueue(begun, "segment:3")
    queue.enqueue(new, "plan")
    # Who makes segments decides what they are.
    own = [take(queue, "large", only=("segment",)) for _ in range(3)]
    assert own == [TaskId(new.id, "plan"), TaskId(begun.id, "segment:3"), None]
    assert take(queue, only=("plan",)) == TaskId(begun.id, "plan")
    assert take(queue, only=("plan", "segment")) is None
    assert take(queue, "small", only=("plan", "join")) == TaskId(begun.id, "join")


def test_who_has_all_kinds_takes_what_came_first(queue: JobQueue) -> None:
    spec = make_spec()
    tasks = ["join", "segment:2", "plan", "segment:1"]
    for task in tasks:
        queue.enqueue(spec, task, is_decided=True)
    assert [take(queue, "bicubic") for _ in tasks] == [TaskId(spec.id, task) for task in tasks]


def test_what_others_take_does_not_change_the_turns_of_new_and_begun_work(queue: JobQueue) -> None:
    """Workers with other models, or of other kinds, in between."""
    for _ in range(6):
        queue.enqueue(make_spec(model="large"), "plan")
        queue.enqueue(make_spec(model="small"), "segment:0")
        queue.enqueue(make_spec(), "join")
    for _ in range(4):
        queue.enqueue(make_spec(model="large"), "segment:0")
    kinds = []
    for _ in range(8):
        task = take(queue, "large", only=("segment",))
        assert task is not None
        kinds.append(task.kind)
        assert take(queue, only=("plan", "join")) is not None or kinds.count("plan") > 3
    assert kinds == ["plan", "segment"] * 4


def test_a_task_that_workers_do_not_have_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no task 'paint'; they do plan, segment, join"):
        kind_to_take("paint", is_decided=True)
