"""What all that keep something in Redis have in common: a client, scripts, and indices."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.commands.core import Script

from jobs.clock import redis_now, unix_ms

T = TypeVar("T")

# Redis syncs its file every second; longer only where its disk stalls or its replica hangs.
_WAIT_MS = 1500


class RedisStore:
    """Something that is kept in Redis. Thread-safe.

    Args:
        client: Of `jobs.connections`: a worker's waits for Redis for ever, the API's give up soon. Answers of
            one for the event loop are to be awaited.

    Raises:
        StoreUnavailableError: By every method, when Redis does not answer.
    """

    def __init__(self, client: redis.Redis | redis.asyncio.Redis) -> None:
        # redis-py types its answers as the union of what any setting gives; ours are always bytes.
        self.client: Any = client
        self._scripts: dict[str, Script] = {}

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._registered(script)(args=arguments)

    def _run_once(self, script: str, *arguments: Any) -> Any:
        """Runs a script that tells by its last argument whether this call has run before."""
        return self._run(script, *arguments, secrets.token_hex(8))

    def _run_durably(self, script: str, *arguments: Any) -> Any:
        """Runs a script, and waits until a power loss or a fail-over does not undo it, or for a moment.

        With `appendonly no`, or Redis before 7.2, nothing is waited for on the server's own disk.
        """
        role, _, replicas, *_ = self.client.execute_command("ROLE")
        with self.client.pipeline(transaction=False) as pipeline:
            self._registered(script)(args=arguments, client=pipeline)
            pipeline.execute_command("WAITAOF", 1, 0, _WAIT_MS)
            if role == b"master" and replicas:
                pipeline.execute_command("WAIT", 1, _WAIT_MS)
            answer = pipeline.execute(raise_on_error=False)[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _transaction(self, change: Callable[[Any], T], *watched: str) -> T:
        """What a function of a pipeline gives, once it has run with nobody else changing these keys."""
        changed: T = self.client.transaction(change, *watched, value_from_callable=True)
        return changed

    def _page(self, key: str, *, limit: int, after: str | None, is_descending: bool = True) -> list[str]:
        """Ids of an index in their order, so many after one."""
        if is_descending:
            found = self.client.zrevrangebylex(key, f"({after}" if after else "+", "-", start=0, num=limit)
        else:
            found = self.client.zrangebylex(key, f"({after}" if after else "-", "+", start=0, num=limit)
        return [item.decode() for item in found]

    def _expired(self, key: str, limit: int) -> list[str]:
        """Ids of an index whose time is over, the longest first."""
        now = unix_ms(redis_now(self.client))
        return [item.decode() for item in self.client.zrangebyscore(key, 0, now, start=0, num=limit)]

    def _registered(self, script: str) -> Script:
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        return self._scripts[script]
