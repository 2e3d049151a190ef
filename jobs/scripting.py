"""Running the scripts of `jobs._scripts`, also so that a customer may be told of what they have done."""

from __future__ import annotations

import secrets
from typing import Any

import redis
import redis.asyncio
from redis.commands.core import Script

# Redis syncs its file every second; longer only where its disk stalls or its replica hangs.
_WAIT_MS = 1500


class Scripted:
    """What runs scripts. Thread-safe. With a client for the event loop, answers are to be awaited.

    Args:
        client: Of `jobs.connections`; without `decode_responses`.
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

    def _registered(self, script: str) -> Script:
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        return self._scripts[script]
