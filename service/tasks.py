"""Messages that the API processes work off themselves: webhooks, the inputs of batches, sources by address.

What they ask for are coroutines on the process's event loop, a few at a time of each kind. A killed process's
messages go to another one after `heartbeat_timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis
import redis.asyncio
import structlog
from starlette.concurrency import run_in_threadpool

from jobs.connections import async_client
from jobs.errors import StoreUnavailableError
from jobs.messages import Delivery, Message, Wanted, wait_seconds
from service.context import ServiceContext

_log: Any = structlog.get_logger(__name__)

_STOP_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


class LaterError(Exception):
    """Raised by a task that is to be done later.

    Args:
        reason: Why.
        delay: After which it is delivered again.
    """

    def __init__(self, reason: str, *, delay: timedelta) -> None:
        super().__init__(reason)
        self.delay = delay


@dataclass(frozen=True)
class TaskKind:
    """A kind of message.

    Attributes:
        queue: Name of its queue.
        name: Of the task.
        run: Does it, given the process's context and the message's id. May raise `LaterError`; after other
            errors it is tried again with exponential back-off.
        num_at_once: How many are done at the same time by one process.
    """

    queue: str
    name: str
    run: Callable[[ServiceContext, str], Awaitable[None]]
    num_at_once: int


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
    context.queue.messages.put(Message(queue, task_id, name, owner, weight), delay=delay)


@asynccontextmanager
async def running_tasks(context: ServiceContext, kinds: Sequence[TaskKind]) -> AsyncIterator[None]:
    """Works off messages of these kinds while the block runs. Unfinished ones go back to their queues."""
    client = async_client(context.settings.effective_queue_redis_url)
    consumers = [asyncio.create_task(_Consumer(context, kind, client).run()) for kind in kinds]
    try:
        yield
    finally:
        for consumer in consumers:
            consumer.cancel()
        # Not longer: while Redis is away nothing can be given back.
        await asyncio.wait(consumers, timeout=_STOP_SECONDS)
        await client.aclose()


class _Consumer:
    """Takes messages of one kind, as many as are done at a time, and keeps those that are being done. Only
    waiting at bells takes long; the rest is done in threads.

    Args:
        context: Of the process.
        kind: What to take.
        client: Of the queue's database, to wait with.
    """

    def __init__(self, context: ServiceContext, kind: TaskKind, client: redis.asyncio.Redis) -> None:
        self._context, self._kind, self._messages = context, kind, context.queue.messages
        self._client: Any = client
        self._wanted = Wanted(queues=(kind.queue,), groups=((kind.name,),))
        self._hold = context.settings.heartbeat_timeout
        self._slots = asyncio.Semaphore(kind.num_at_once)
        self._held: dict[Delivery, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        keeping = asyncio.create_task(self._keep())
        try:
            while True:
                await self._slots.acquire()
                delivery = await self._next()
                self._held[delivery] = asyncio.create_task(self._work(delivery))
        finally:
            keeping.cancel()
            tasks = list(self._held.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for delivery in list(self._held):  # of tasks that were cancelled before they began
                await self._put_back(delivery)

    async def _next(self) -> Delivery:
        while True:
            try:
                found = await self._taken()
                if isinstance(found, Delivery):
                    return found
                await self._client.blpop(self._wanted.bells, timeout=wait_seconds(found))
            except Exception:
                # Whatever it is: nobody would miss this task until messages stand still.
                _log.warning("queue.failed", queue=self._kind.queue, exc_info=True)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _taken(self) -> Delivery | float:
        # Not to be cut short: what has been taken would be nobody's for a while.
        taking = asyncio.create_task(run_in_threadpool(self._messages.take, self._wanted, hold=self._hold))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with suppress(StoreUnavailableError, redis.RedisError):
                found = await taking
                if isinstance(found, Delivery):
                    await run_in_threadpool(self._messages.put_back, found)
            raise

    async def _work(self, delivery: Delivery) -> None:
        try:
            await self._kind.run(self._context, delivery.id)
        except asyncio.CancelledError:
            await self._put_back(delivery)
            raise
        except LaterError as error:
            await self._put_back(delivery, error.delay)
        except Exception:
            _log.warning("task.failed", queue=delivery.queue, message=delivery.id, exc_info=True)
            await self._put_back(delivery, delivery.failure_delay)
        else:
            with suppress(StoreUnavailableError, redis.RedisError):  # it comes again, and is harmless
                await run_in_threadpool(self._messages.finish, delivery)
        finally:
            del self._held[delivery]
            self._slots.release()

    async def _put_back(self, delivery: Delivery, delay: timedelta = timedelta()) -> None:
        with suppress(StoreUnavailableError, redis.RedisError):  # others get it when it is not kept any more
            await run_in_threadpool(self._messages.put_back, delivery, delay=delay)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._hold.total_seconds() / 3)
            for delivery in list(self._held):
                try:
                    await run_in_threadpool(self._messages.keep, delivery, hold=self._hold)
                except Exception:
                    _log.warning("message.not_kept", message=delivery.id, exc_info=True)
