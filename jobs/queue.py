"""The queue of tasks: messages of ids only, a queue for each priority, and one for sources to be fetched.

Messages are put by name, so the API needs no code of the workers. A task may be delivered more than once;
tasks are harmless when run twice (`jobs.store`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import redis

from jobs.messages import Message, MessageQueue, Wanted
from jobs.records import PRIORITIES, Priority

FETCH, PLAN, SEGMENT, JOIN = "fetch", "plan", "segment", "join"
# Sources are fetched by API processes; workers take from the queues of the priorities only.
FETCH_QUEUE = "fetch"
# The line of jobs that have not begun. It and work on jobs that have take turns: otherwise the plans of a
# thousand new jobs would come before the first segment of any of them.
_NEW = "new"
TASKS = Wanted(queues=tuple(map(str, PRIORITIES)), groups=((_NEW,), (PLAN, SEGMENT, JOIN)))
"""What workers take."""


@dataclass(frozen=True)
class TaskId:
    """One task of one job.

    Attributes:
        job_id: Of the job.
        task: "fetch", "plan", "segment:7" or "join".
    """

    job_id: str
    task: str

    @property
    def kind(self) -> str:
        """Such as "segment"."""
        return self.task.partition(":")[0]


class JobQueue:
    """Puts tasks into the queue and tells which are there.

    Whoever enqueues a task says whose it is, and the weight of that key: keys take turns.

    Args:
        client: Of the queue's database, without `decode_responses`.

    Attributes:
        messages: The queues.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.messages = MessageQueue(client)

    def enqueue_plan(
        self,
        job_id: str,
        priority: Priority,
        *,
        owner: str,
        weight: int = 1,
        is_continuation: bool = False,
    ) -> None:
        """Asks for a job to be planned, or planned on."""
        line = PLAN if is_continuation else _NEW
        self.messages.put(Message(priority, f"{job_id} {PLAN}", line, owner, weight))

    def enqueue_fetch(self, job_id: str, *, owner: str, weight: int = 1) -> None:
        """Asks for a job's source to be fetched."""
        self.messages.put(Message(FETCH_QUEUE, f"{job_id} {FETCH}", FETCH, owner, weight))

    def enqueue_segment(
        self, job_id: str, index: int, priority: Priority, *, owner: str, weight: int = 1
    ) -> None:
        """Asks for a segment to be made."""
        self.enqueue(TaskId(job_id, f"{SEGMENT}:{index}"), priority, owner=owner, weight=weight)

    def enqueue_join(self, job_id: str, priority: Priority, *, owner: str, weight: int = 1) -> None:
        """Asks for the final file."""
        self.enqueue(TaskId(job_id, JOIN), priority, owner=owner, weight=weight)

    def enqueue(
        self,
        task: TaskId,
        priority: Priority,
        *,
        owner: str,
        weight: int = 1,
        delay: timedelta = timedelta(),
    ) -> None:
        """Asks for any task."""
        queue = FETCH_QUEUE if task.kind == FETCH else priority
        line = _NEW if task.kind == PLAN else task.kind
        message = Message(queue, f"{task.job_id} {task.task}", line, owner, weight)
        self.messages.put(message, delay=delay)

    def tasks(self) -> set[TaskId]:
        """All tasks with a message: waiting, put off, or taken by a worker that has not finished it."""
        return {
            task_of(message_id)
            for queue in (FETCH_QUEUE, *PRIORITIES)
            for message_id in self.messages.ids(queue)
        }

    def depths(self) -> dict[Priority, tuple[int, int]]:
        """Messages by priority: (waiting or put off, taken by workers)."""
        depths = self.messages.depths(PRIORITIES)
        return {
            priority: (depth.waiting, depth.taken) for priority, depth in zip(PRIORITIES, depths, strict=True)
        }


def task_of(message_id: str) -> TaskId:
    """Which task a message asks for."""
    job_id, _, task = message_id.partition(" ")
    return TaskId(job_id, task)
