"""Messages that the API processes work off themselves: webhooks, the inputs of batches, sources by address.

A dramatiq worker per queue, with a few threads; what they run are coroutines on the process's event loop.
A killed process's messages go to another one after `heartbeat_timeout`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from dramatiq import Actor, Message, Worker
from dramatiq.errors import BrokerConnectionError

from jobs.connections import patient_client
from jobs.errors import StoreUnavailableError
from jobs.outages import reported_outage
from jobs.queue import make_broker
from jobs.turns import TurnBroker
from service.context import ServiceContext

# How long an idle worker waits between two looks at its queue, at most.
_IDLE_MS = 200
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class TaskKind:
    """A kind of message.

    Attributes:
        queue: Name of its queue.
        name: Of the task.
        run: Does it, given the process's context and an id. May raise `dramatiq.errors.Retry` to be asked
            again later; other errors are tried again with exponential back-off.
        num_threads: How many are done at the same time by one process.
    """

    queue: str
    name: str
    run: Callable[[ServiceContext, str], Awaitable[None]]
    num_threads: int


def enqueue_task(
    context: ServiceContext,
    queue: str,
    name: str,
    task_id: str,
    *,
    owner: str,
    weight: int = 1,
    delay: timedelta = timedelta(),
) -> None:
    """Asks for a task to be done by any API process, when it is its owner's turn, and not before some time is
    over. Blocking.

    Raises:
        StoreUnavailableError: If the queue does not answer.
    """
    broker = context.queue.broker
    message: Message[object] = Message(
        queue_name=queue,
        actor_name=name,
        args=(task_id,),
        kwargs={},
        options={"owner": owner, "weight": weight},
    )
    try:
        with reported_outage():
            broker.declare_queue(queue)
            broker.enqueue(message, delay=int(delay.total_seconds() * 1000) or None)
    except BrokerConnectionError as error:
        raise StoreUnavailableError("the queue does not answer; try again in a moment") from error


@asynccontextmanager
async def running_tasks(context: ServiceContext, kinds: Sequence[TaskKind]) -> AsyncIterator[None]:
    """Works off messages of these kinds while the block runs. Unfinished ones go back to their queues."""
    settings = context.settings
    client = patient_client(settings.effective_queue_redis_url)
    bridge = _Bridge(asyncio.get_running_loop())
    workers = []
    for kind in kinds:
        broker = make_broker(client, heartbeat_timeout=settings.heartbeat_timeout, broker_class=TurnBroker)
        Actor(
            bridge.blocking(context, kind.run),
            broker=broker,
            actor_name=kind.name,
            queue_name=kind.queue,
            priority=0,
            options={},
        )
        workers.append(
            Worker(broker, queues={kind.queue}, worker_threads=kind.num_threads, worker_timeout=_IDLE_MS)
        )
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        bridge.stop()
        await _stopped(workers)
        client.close()


class _Bridge:
    """Runs coroutines on the loop for threads that wait for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def blocking(
        self, context: ServiceContext, run: Callable[[ServiceContext, str], Awaitable[None]]
    ) -> Callable[[str], None]:
        async def start(task_id: str) -> None:
            await run(context, task_id)

        def run_blocking(task_id: str) -> None:
            with self._lock:
                if self._is_stopped:
                    raise InterruptedError("the process is stopping")
                future = asyncio.run_coroutine_threadsafe(start(task_id), self._loop)
                self._running.add(future)
            try:
                future.result()
            finally:
                self._running.discard(future)

        return run_blocking

    def stop(self) -> None:
        """Cancels what runs: dramatiq takes that for a failure, and the message is delivered again."""
        with self._lock:
            self._is_stopped = True
            for future in list(self._running):
                future.cancel()


async def _stopped(workers: Sequence[Worker]) -> None:
    """Stops workers, all at a time, without blocking the loop, nor the end of the process while Redis is
    away."""
    loop = asyncio.get_running_loop()

    def stop(worker: Worker, stopped: asyncio.Event) -> None:
        worker.stop(timeout=int(_STOP_SECONDS * 1000))
        loop.call_soon_threadsafe(stopped.set)

    events = []
    for worker in workers:
        stopped = asyncio.Event()
        events.append(stopped.wait())
        threading.Thread(target=stop, args=(worker, stopped), daemon=True, name="stop-tasks").start()
    try:
        await asyncio.wait_for(asyncio.gather(*events), 2 * _STOP_SECONDS)
    except TimeoutError:
        return


def retry_delay(attempts: int, *, first: timedelta, factor: float, longest: timedelta) -> timedelta:
    """How long to wait after so many failed attempts: exponential.

    Args:
        attempts: Failed so far, at least 1.
        first: After the first.
        factor: Of each wait to the one before.
        longest: Of all.
    """
    # In seconds: the hundredth power is no length of time, but still a number.
    seconds = first.total_seconds() * factor ** min(attempts - 1, 100)
    return timedelta(seconds=min(seconds, longest.total_seconds()))
