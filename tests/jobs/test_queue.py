"""Tasks by name, and what is known of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.messages import Delivery
from jobs.queue import JobQueue, TaskId, task_of, tasks_for
from jobs.records import Priority
from tests.jobs.made import make_spec

HOLD = timedelta(seconds=60)


def take(queue: JobQueue, *models: str) -> TaskId | None:
    """The next task for a worker that has these models."""
    found = queue.messages.take(tasks_for(models), hold=HOLD)
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
    queue.enqueue(begun[0], "plan", is_continuation=True)
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
