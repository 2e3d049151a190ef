"""The queue: dramatiq on Redis, two queues per priority, messages of ids only.

Messages are enqueued by name, so the API needs no code of the workers. A message may be delivered more than
once; tasks are harmless when run twice (`jobs.store`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import redis
from dramatiq import Message
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import Callbacks, CurrentMessage, Middleware, Retries

from jobs.broker import QueueBroker
from jobs.errors import StoreUnavailableError
from jobs.records import PRIORITIES, Priority
from jobs.turns import TurnIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "dramatiq"
FETCH, PLAN, SEGMENT, JOIN = "fetch", "plan", "segment", "join"
# Sources are fetched by API processes; workers take from the queues of the priorities only.
FETCH_QUEUE = "fetch"
WEBHOOKS_QUEUE = "webhooks"

# A failed task decides itself what becomes of its job; these retries are for a storage or store that is away.
MAX_INFRASTRUCTURE_RETRIES = 1_000
_MIN_BACKOFF_MS, _MAX_BACKOFF_MS = 1_000, 60_000
# A dead worker's messages wait for the next maintenance, which by default takes about 20 minutes to come.
_ALWAYS = 1_000_000


@dataclass(frozen=True)
class TaskId:
    """One task of one job.

    Attributes:
        job_id: Of the job.
        task: "fetch", "plan", "segment:7" or "join".
    """

    job_id: str
    task: str


def make_broker(
    client: redis.Redis,
    *,
    heartbeat_timeout: timedelta,
    middleware: Iterable[Middleware] = (),
    broker_class: type[QueueBroker] = QueueBroker,
) -> QueueBroker:
    """The broker of one process.

    TimeLimit (kills a task after 10 minutes) and AgeLimit are left out: a segment takes as long as it takes.

    Args:
        client: Of the queue's database.
        heartbeat_timeout: After which a silent worker's messages go to others.
        middleware: Comes after the usual ones.
        broker_class: A kind of its own, for processes that consume.
    """
    broker = broker_class(
        client=client,
        heartbeat_timeout=int(heartbeat_timeout.total_seconds() * 1000),
        maintenance_chance=_ALWAYS,
        namespace=NAMESPACE,
        middleware=[
            Callbacks(),
            CurrentMessage(),
            Retries(
                max_retries=MAX_INFRASTRUCTURE_RETRIES,
                min_backoff=_MIN_BACKOFF_MS,
                max_backoff=_MAX_BACKOFF_MS,
            ),
            TurnIndex(),
            *middleware,
        ],
    )
    for priority in PRIORITIES:
        for name in queue_names(priority):
            broker.declare_queue(name)
    return broker


def queue_names(priority: Priority) -> tuple[str, str]:
    """The two queues of a priority: of work on jobs that have begun, and of jobs that have not.

    Each key's are taken in turn. In one queue the plans of a thousand new jobs would come before the first
    segment of any of them.
    """
    return str(priority), f"{priority}_new"


class JobQueue:
    """Puts tasks into the queue and tells which are there.

    Whoever enqueues a task says whose it is, and the weight of that key: keys take turns (`jobs.turns`).

    Args:
        broker: From `make_broker`.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, broker: QueueBroker) -> None:
        self.broker = broker

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
        begun, new = queue_names(priority)
        self._enqueue(begun if is_continuation else new, PLAN, (job_id,), owner=owner, weight=weight)

    def enqueue_fetch(self, job_id: str, *, owner: str, weight: int = 1) -> None:
        """Asks for a job's source to be fetched."""
        self._enqueue(FETCH_QUEUE, FETCH, (job_id,), owner=owner, weight=weight)

    def enqueue_segment(
        self,
        job_id: str,
        index: int,
        priority: Priority,
        *,
        owner: str,
        weight: int = 1,
        delay: timedelta = timedelta(),
    ) -> None:
        """Asks for a segment to be made."""
        self._enqueue(priority, SEGMENT, (job_id, index), delay, owner=owner, weight=weight)

    def enqueue_join(self, job_id: str, priority: Priority, *, owner: str, weight: int = 1) -> None:
        """Asks for the final file."""
        self._enqueue(priority, JOIN, (job_id,), owner=owner, weight=weight)

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
        name, _, index = task.task.partition(":")
        begun, new = queue_names(priority)
        arguments = (task.job_id, int(index)) if index else (task.job_id,)
        queue = {FETCH: FETCH_QUEUE, PLAN: new}.get(name, begun)
        self._enqueue(queue, name, arguments, delay, owner=owner, weight=weight)

    def tasks(self) -> set[TaskId]:
        """All tasks with a message: waiting, delayed, or given to a worker that has not acknowledged it."""
        found = set()
        for queue in (FETCH_QUEUE, *(name for priority in PRIORITIES for name in queue_names(priority))):
            for name in (queue, f"{queue}.DQ"):
                with _reported_outage():
                    messages = self.broker.client.hvals(f"{NAMESPACE}:{name}.msgs")
                for content in messages:
                    message = json.loads(content)
                    job_id, *index = message["args"]
                    task = message["actor_name"]
                    found.add(TaskId(job_id, f"{task}:{index[0]}" if index else task))
        return found

    def depths(self) -> dict[Priority, tuple[int, int]]:
        """Messages by priority: (waiting or delayed, given to workers)."""
        depths = {}
        for priority in PRIORITIES:
            with _reported_outage(), self.broker.client.pipeline(transaction=False) as pipeline:
                for name in queue_names(priority):
                    pipeline.llen(f"{NAMESPACE}:{name}")
                    pipeline.hlen(f"{NAMESPACE}:{name}.msgs")
                    pipeline.hlen(f"{NAMESPACE}:{name}.DQ.msgs")
                values = pipeline.execute()
            waiting, known, delayed = (values[position] + values[position + 3] for position in range(3))
            depths[priority] = (waiting + delayed, max(0, known - waiting))
        return depths

    def _enqueue(
        self,
        queue: str,
        actor: str,
        arguments: tuple[object, ...],
        delay: timedelta = timedelta(),
        *,
        owner: str,
        weight: int = 1,
    ) -> None:
        options = {"owner": owner, "weight": weight}
        message: Message[object] = Message(
            queue_name=str(queue), actor_name=actor, args=arguments, kwargs={}, options=options
        )
        milliseconds = int(delay.total_seconds() * 1000)
        with _reported_outage():
            self.broker.enqueue(message, delay=milliseconds or None)


@contextmanager
def _reported_outage() -> Iterator[None]:
    try:
        yield
    except (
        BrokerConnectionError,
        redis.ConnectionError,
        redis.TimeoutError,
        redis.BusyLoadingError,
    ) as error:
        raise StoreUnavailableError("the queue does not answer; try again in a moment") from error
