"""Do the parts answer that requests need?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import structlog

from jobs.api_keys import KeyLimits
from service.auth import Caller
from service.context import ServiceContext
from service.system.schemas import ReadinessSchema

_log = structlog.get_logger(__name__)
_PATIENCE_SECONDS = 1.0
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
        self._running: asyncio.Task[ReadinessSchema] | None = None

    async def run(self) -> ReadinessSchema:
        """Asks; whoever comes meanwhile gets the same answer. A thousand probes at once would find only that
        they stand in each other's way."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._running)

    async def _ask_all(self) -> ReadinessSchema:
        """Asks.

        Workers are told of, but the API is ready without them: it takes jobs, answers about them and serves
        results, and taking it out of the load balancer would help nobody.
        """
        context = self._context
        client: Any = context.async_client
        redis, queue, storage, workers = await asyncio.gather(
            self._ask("redis", client.ping),
            self._ask("queue", self._in_thread(context.queue.depths)),
            self._ask("storage", self._in_thread(context.storage.check)),
            self._ask("workers", self._in_thread(self._describe_workers)),
        )
        checks = {"redis": redis, "queue": queue, "storage": storage}
        if any(answer != _OK for answer in checks.values()):
            status = "unavailable"
        else:
            status = _OK if workers == _OK else "degraded"
        return ReadinessSchema.model_validate({"status": status, "checks": {**checks, "workers": workers}})

    def _in_thread(self, function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._threads)

    def _describe_workers(self) -> str:
        return _OK if self._context.fleet.workers() else "none is alive"

    async def _ask(self, part: str, question: Callable[[], Awaitable[Any]]) -> str:
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                answer = await question()
        except TimeoutError:
            return f"no answer within {_PATIENCE_SECONDS:g} s"
        except Exception as error:  # whatever is wrong, the probe is to say so and not to fail itself
            # Details, such as addresses, are for the log: everybody may ask.
            _log.warning("readiness.failed", part=part, error=str(error))
            return "does not answer"
        return answer if isinstance(answer, str) else _OK


def effective_limits(context: ServiceContext, caller: Caller) -> KeyLimits:
    """What holds for a caller: the key's own limits, else the server's."""
    limits, settings = caller.limits, context.settings
    return limits.model_copy(
        update={
            "requests_per_minute": (limits.requests_per_minute or settings.requests_per_minute)
            if context.uses_keys
            else 0,
            "max_upload_bytes": limits.max_upload_bytes or settings.max_upload_bytes,
        }
    )
