"""Do the parts answer that requests need?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import structlog

from jobs.connections import async_client
from jobs.queue import TASK_KINDS
from media.sandbox import is_confined, shared_sandbox
from service.context import ServiceContext
from service.system.schemas import ReadinessSchema

_log = structlog.get_logger(__name__)
_PATIENCE_SECONDS = 1.0
_KEPT_SECONDS = 1.0
_LATE_SECONDS = 0.1
# A part that hangs keeps its thread until it gives up; those of the requests must not run out meanwhile.
_MAX_HANGING = 8
_OK = "ok"


class ReadinessCheck:
    """Asks every part, all at the same time, each for at most a second.

    Args:
        context: Of the process.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._threads = anyio.CapacityLimiter(_MAX_HANGING)
        # Of its own: the probe is not to wait behind five hundred requests for a connection.
        self._client: Any = async_client(context.settings.redis_url)
        self._running: asyncio.Task[ReadinessSchema] | None = None
        self._found_at = 0.0

    async def run(self) -> ReadinessSchema:
        """What was found at most a second ago, or is being found: everybody may ask, and a thousand probes at
        once would find only that they stand in each other's way."""
        is_old = time.monotonic() >= self._found_at + _KEPT_SECONDS
        if self._running is None or (self._running.done() and is_old):
            self._running = asyncio.create_task(self._ask_all())
            self._running.add_done_callback(self._note_time)
        return await asyncio.shield(self._running)

    def _note_time(self, task: asyncio.Task[ReadinessSchema]) -> None:
        self._found_at = time.monotonic()

    async def _ask_all(self) -> ReadinessSchema:
        """Asks.

        Workers are told of, but the API is ready without them: it takes jobs, answers about them and serves
        results, and taking it out of the load balancer would help nobody.
        """
        context = self._context
        redis, queue, storage, sandbox, workers = await asyncio.gather(
            self._ask("redis", self._client.ping),
            self._ask("queue", self._in_thread(context.queue.depths)),
            self._ask("storage", self._in_thread(context.storage.check)),
            self._ask("sandbox", self._in_thread(_describe_sandbox)),
            self._ask("workers", self._in_thread(self._describe_workers)),
        )
        checks = {"redis": redis, "queue": queue, "storage": storage}
        if any(answer != _OK for answer in checks.values()):
            status = "unavailable"
        else:
            status = _OK if (workers, sandbox) == (_OK, _OK) else "degraded"
        return ReadinessSchema.model_validate(
            {"status": status, "checks": {**checks, "sandbox": sandbox, "workers": workers}}
        )

    async def close(self) -> None:
        """Closes its connection."""
        await self._client.aclose()

    def _in_thread(self, function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._threads)

    def _describe_workers(self) -> str:
        workers = self._context.fleet.workers()
        taken = {kind for worker in workers for kind in worker.only}
        missing = [kind for kind in TASK_KINDS if kind not in taken]
        if workers and missing:
            return f"none that is alive takes {' or '.join(missing)}"
        return _OK if workers else "none is alive"

    async def _ask(self, part: str, question: Callable[[], Awaitable[Any]], *, is_first: bool = True) -> str:
        began = time.monotonic()
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                answer = await question()
        except TimeoutError:
            if is_first and time.monotonic() - began > _PATIENCE_SECONDS + _LATE_SECONDS:
                # Even the clock came late: this process was busy, and may not have looked at the answer.
                return await self._ask(part, question, is_first=False)
            return f"no answer within {_PATIENCE_SECONDS:g} s"
        except Exception as error:  # whatever is wrong, the probe is to say so and not to fail itself
            # Details, such as addresses, are for the log: everybody may ask.
            _log.warning("readiness.failed", part=part, error=str(error))
            return "does not answer"
        return answer if isinstance(answer, str) else _OK


def _describe_sandbox() -> str:
    missing = shared_sandbox("probe").missing()
    return _OK if is_confined(missing) else f"files are read without {' and '.join(missing)}"
