"""Tasks by name, and what is known of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.messages import Delivery
from jobs.queue import TASKS, JobQueue, TaskId, task_of
from jobs.records import Priority

HOLD = timedelta(seconds=60)


def take(queue: JobQueue) -> TaskId | None:
    """The next task for a worker."""
    found = queue.messages.take(TASKS, hold=HOLD)
    return task_of(found.id) if isinstance(found, Delivery) else None


def test_all_messages_are_known_wherever_they_are(queue: JobQueue) -> None:
    queue.enqueue_plan("a", Priority.HIGH, owner="local")
    assert take(queue) == TaskId("a", "plan")
    queue.enqueue_segment("a", 7, Priority.NORMAL, owner="local")
    queue.enqueue_join("b", Priority.LOW, owner="local")
    queue.enqueue(TaskId("c", "segment:3"), Priority.LOW, delay=timedelta(minutes=1), owner="local")
    queue.enqueue_fetch("d", owner="local")
    assert queue.tasks() == {
        TaskId("a", "plan"),
        TaskId("a", "segment:7"),
        TaskId("b", "join"),
        TaskId("c", "segment:3"),
        TaskId("d", "fetch"),
    }
    depths = queue.depths()
    assert depths[Priority.HIGH] == (0, 1)
    assert depths[Priority.NORMAL] == (1, 0)
    assert depths[Priority.LOW] == (2, 0)


@pytest.mark.parametrize("task", ["plan", "join", "segment:12", "fetch"])
def test_any_task_can_be_enqueued_by_its_name(queue: JobQueue, task: str) -> None:
    queue.enqueue(TaskId("job", task), Priority.NORMAL, owner="local")
    assert queue.tasks() == {TaskId("job", task)}


def test_new_jobs_and_begun_ones_take_turns(queue: JobQueue) -> None:
    for number in range(3):
        queue.enqueue_plan(f"new{number}", Priority.NORMAL, owner="local")
    queue.enqueue_plan("begun0", Priority.NORMAL, is_continuation=True, owner="local")
    queue.enqueue_segment("begun1", 0, Priority.NORMAL, owner="local")
    queue.enqueue_join("begun2", Priority.NORMAL, owner="local")
    taken = [task.job_id for _ in range(6) if (task := take(queue))]
    assert taken == ["new0", "begun0", "new1", "begun1", "new2", "begun2"]


def test_a_source_is_no_workers_work(queue: JobQueue) -> None:
    queue.enqueue_fetch("a", owner="local")
    assert take(queue) is None
