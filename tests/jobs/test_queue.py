"""Messages by name, and what is known of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.queue import JobQueue, TaskId
from jobs.records import Priority


def test_all_messages_are_known_wherever_they_are(queue: JobQueue) -> None:
    queue.enqueue_plan("a", Priority.HIGH, owner="local")
    queue.enqueue_segment("a", 7, Priority.NORMAL, owner="local")
    queue.enqueue_join("b", Priority.LOW, owner="local")
    queue.enqueue(TaskId("c", "segment:3"), Priority.LOW, delay=timedelta(minutes=1), owner="local")
    queue.broker.do_fetch("high_new", 1)  # given to a worker
    assert queue.tasks() == {
        TaskId("a", "plan"),
        TaskId("a", "segment:7"),
        TaskId("b", "join"),
        TaskId("c", "segment:3"),
    }
    depths = queue.depths()
    assert depths[Priority.HIGH] == (0, 1)
    assert depths[Priority.NORMAL] == (1, 0)
    assert depths[Priority.LOW] == (2, 0)


@pytest.mark.parametrize("task", ["plan", "join", "segment:12"])
def test_any_task_can_be_enqueued_by_its_name(queue: JobQueue, task: str) -> None:
    queue.enqueue(TaskId("job", task), Priority.NORMAL, owner="local")
    assert queue.tasks() == {TaskId("job", task)}


def test_an_acknowledged_message_is_forgotten(queue: JobQueue) -> None:
    queue.enqueue_plan("a", Priority.NORMAL, owner="local")
    (data,) = queue.broker.do_fetch("normal_new", 1)
    message_id = queue.broker.client.hkeys("dramatiq:normal_new.msgs")[0].decode()  # type: ignore[index,union-attr]
    assert message_id in data.decode()
    queue.broker.do_ack("normal_new", message_id)
    assert queue.tasks() == set()
