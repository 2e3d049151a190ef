"""Changes that a customer is told of: they are on the disk, and on a replica if there is one, before that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.commands.core import Script

# Redis syncs its file every second; longer only where its disk stalls or its replica hangs.
_WAIT_MS = 1500


def run_durably(script: Script, *, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
    """Runs a script, and waits until a power loss or a fail-over does not undo it, or for a moment.

    With `appendonly no`, or Redis before 7.2, nothing is waited for on the server's own disk.

    Raises:
        redis.RedisError: If Redis does not answer, or the script fails.
    """
    client: Any = script.registered_client
    role, _, replicas, *_ = client.execute_command("ROLE")
    with client.pipeline(transaction=False) as pipeline:
        script(keys=keys, args=args, client=pipeline)
        pipeline.execute_command("WAITAOF", 1, 0, _WAIT_MS)
        if role == b"master" and replicas:
            pipeline.execute_command("WAIT", 1, _WAIT_MS)
        answer = pipeline.execute(raise_on_error=False)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer
