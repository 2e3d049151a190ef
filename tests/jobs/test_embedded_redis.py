"""The server that `dovetail serve` brings along."""

from __future__ import annotations

import time
from pathlib import Path

from jobs.embedded_redis import EmbeddedRedis


def test_it_ends_without_being_waited_for(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.ensure_running()
    begun = time.monotonic()
    server.stop()
    # Three tries to reach a server that has gone took 4 s and more.
    assert time.monotonic() - begun < 1.5
