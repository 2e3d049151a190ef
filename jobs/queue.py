"""The queue of tasks: messages of ids only, a queue for each priority, and one for sources to be fetched.

Messages are put by name, so the API needs no code of the workers. A task may be delivered more than once;
tasks are harmless when run twice (`jobs.store`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

import redis

from jobs.messages import Message, MessageQueue, Wanted
from jobs.specs import PRIORITIES, JobSpec, Priority

TaskKind = Literal["plan", "segment", "join"]
"""What workers do."""
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
FETCH = "fetch"
PLAN, SEGMENT, JOIN = TASK_KINDS
# Sources are fetched by API processes; workers take from the queues of the priorities only.
FETCH_QUEUE = "fetch"
# Lines of jobs to be decided and of segments, before the model's name.
_NEW, _BEGUN = "new", "begun"


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
        client: As for the store, of the queue's database.

    Attributes:
        messages: The queues.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.messages = MessageQueue(client)

    def enqueue(
        self, spec: JobSpec, task: str, *, is_decided: bool = False, delay: timedelta = timedelta()
    ) -> None:
        """Asks for a task to be done, when it is its key's turn, by a worker that takes such tasks.

        Args:
            spec: Of the job.
            task: As in `TaskId`.
            is_decided: Whether it has been decided what is made of the job, so that planning only goes on.
            delay: Before it may be done.
        """
        queue, line = FETCH_QUEUE, FETCH
        if task != FETCH:
            queue, line = str(spec.priority), _line(spec, task, is_decided=is_decided)
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
        return dict(zip(PRIORITIES, self.messages.depths(PRIORITIES), strict=True))


def tasks_for(models: Iterable[str], kinds: Collection[TaskKind] = TASK_KINDS) -> Wanted:
    """What a worker takes that has these models and does these kinds of tasks.

    Jobs that have not begun and work on jobs that have take turns: otherwise the plans of a thousand new jobs
    would come before the first segment of any of them.

    Args:
        models: For segments; the rest takes no model.
        kinds: At least one.
    """
    # Jobs that name none get any worker's own.
    names = tuple(dict.fromkeys(map(_name_in_line, (*models, None)))) if SEGMENT in kinds else ()
    others = tuple(kind for kind in (PLAN, JOIN) if kind in kinds)
    new = tuple(f"{_NEW} {name}" for name in names)
    begun = (*(f"{_BEGUN} {name}" for name in names), *others)
    return Wanted(queues=tuple(map(str, PRIORITIES)), groups=(new, begun) if new else (begun,))


def kind_to_take(task: str, *, is_decided: bool) -> TaskKind:
    """Of which kind the tasks are that a worker must take to do this one.

    A job is decided by those who make segments: tiles, chunks and encoder are those of their machines.

    Args:
        task: As in `TaskId`, one of workers.
        is_decided: As in `JobQueue.enqueue`.
    """
    for kind in TASK_KINDS:
        if task.partition(":")[0] == kind:
            return SEGMENT if kind == PLAN and not is_decided else kind
    raise ValueError(f"workers have no task {task!r}; they do {', '.join(TASK_KINDS)}")


def task_of(message_id: str) -> TaskId:
    """Which task a message asks for."""
    job_id, _, task = message_id.partition(" ")
    return TaskId(job_id, task)


def _line(spec: JobSpec, task: str, *, is_decided: bool) -> str:
    kind = kind_to_take(task, is_decided=is_decided)
    if kind != SEGMENT:
        return kind
    return f"{_NEW if task == PLAN else _BEGUN} {_name_in_line(spec.options.model)}"


def _name_in_line(model: str | None) -> str:
    # What follows a colon are a model's parameters, as of stand-ins.
    return (model or "").partition(":")[0]
