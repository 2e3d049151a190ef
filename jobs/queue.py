"""The queue of tasks: messages of ids only, a queue for each priority, and one for sources to be fetched.

Messages are put by name, so the API needs no code of the workers. A task may be delivered more than once;
tasks are harmless when run twice (`jobs.store`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import redis

from jobs.messages import Message, MessageQueue, Wanted
from jobs.records import PRIORITIES, JobSpec, Priority

FETCH, PLAN, SEGMENT, JOIN = "fetch", "plan", "segment", "join"
# Sources are fetched by API processes; workers take from the queues of the priorities only.
FETCH_QUEUE = "fetch"


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

    Args:
        client: Of the queue's database, without `decode_responses`.

    Attributes:
        messages: The queues.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.messages = MessageQueue(client)

    def enqueue(
        self,
        spec: JobSpec,
        task: str,
        *,
        is_continuation: bool = False,
        delay: timedelta = timedelta(),
    ) -> None:
        """Asks for a task to be done, when it is its key's turn, by a worker that has the job's model.

        Args:
            spec: Of the job.
            task: As in `TaskId`.
            is_continuation: Whether planning goes on, rather than begins.
            delay: Before it may be done.
        """
        if task == FETCH:
            queue, line = FETCH_QUEUE, FETCH
        else:
            is_new = task == PLAN and not is_continuation
            queue, line = str(spec.priority), _line(spec.options.model, is_new=is_new)
        message = Message(queue, f"{spec.id} {task}", line, spec.owner, spec.weight)
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


def tasks_for(models: Iterable[str]) -> Wanted:
    """What a worker takes that has these models.

    Jobs that have not begun and work on jobs that have take turns: otherwise the plans of a thousand new jobs
    would come before the first segment of any of them.
    """
    names = (*models, None)  # jobs that name none get any worker's own

    def lines(*, is_new: bool) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_line(name, is_new=is_new) for name in names))

    return Wanted(queues=tuple(map(str, PRIORITIES)), groups=(lines(is_new=True), lines(is_new=False)))


def task_of(message_id: str) -> TaskId:
    """Which task a message asks for."""
    job_id, _, task = message_id.partition(" ")
    return TaskId(job_id, task)


def _line(model: str | None, *, is_new: bool) -> str:
    # What follows a colon are a model's parameters, as of stand-ins.
    name = (model or "").partition(":")[0]
    return f"{'new' if is_new else 'begun'} {name}"
