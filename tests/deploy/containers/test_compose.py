"""deploy/compose as the README starts it: up, a job, a worker killed in the middle, everything kept, down."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from dovetail_client import Dovetail
from media.probing import probe
from tests.deploy.containers.docker import ROOT, docker

pytestmark = [pytest.mark.needs_docker, pytest.mark.slow, pytest.mark.timeout(2400)]

PROJECT = "dovetail-test"
# Model that sleeps for each frame, so that there is a middle to be killed in.
SLOW = "standin:sleep=0.02"


class Compose:
    """`docker compose` with the project's file, on a free port."""

    def __init__(self, override: Path) -> None:
        files = [ROOT / "deploy/compose" / name for name in ("compose.yaml", "monitoring.yaml")]
        self._files = [part for file in (*files, override) for part in ("-f", str(file))]

    def __call__(self, *arguments: str, timeout: float = 180) -> str:
        done = subprocess.run(
            ["docker", "compose", "-p", PROJECT, *self._files, *arguments],
            env=os.environ
            | {"DOVETAIL_PORT": "0", "DOVETAIL_SEGMENT_SECONDS": "2", "DOVETAIL_MODELS": '["bicubic"]'}
            | {"PROMETHEUS_PORT": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Service by service, for no package index has Grafana."""
        self("up", "--no-build", "--detach", "--wait", *arguments, "api", "worker")

    def address(self, service: str, port: int) -> str:
        return "http://" + self("port", service, str(port)).strip()

    @property
    def url(self) -> str:
        return self.address("api", 8000)

    @property
    def key(self) -> str:
        """As the header of compose.yaml says: from the log."""
        found = re.search(r"dv_\S+", self("logs", "--no-log-prefix", "key"))
        assert found is not None
        return found[0]


@pytest.fixture(scope="module")
def compose(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    override = tmp_path_factory.mktemp("compose") / "tests.yaml"
    soon = {"healthcheck": {"interval": "1s", "start_period": "5m"}}
    worker = {"environment": {"DOVETAIL_ALLOW_STANDINS": "true"}, **soon}
    override.write_text(yaml.safe_dump({"services": {"valkey": soon, "api": soon, "worker": worker}}))
    compose = Compose(override)
    try:
        compose.up()
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "10")


def made(client: Dovetail, clip: Path) -> tuple[float, str]:
    """Seconds until a job is complete, and the digest of what it made."""
    begin = time.monotonic()
    job = client.wait(client.submit(clip, scale=2, model=SLOW).id, timeout=180)
    assert job.status == "completed"
    seconds = time.monotonic() - begin
    path = client.download(job.id, clip.with_name(f"{job.id}.mp4"))
    return seconds, hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_job_survives_its_worker_and_two_make_the_same(compose: Compose, clip: Path) -> None:
    with Dovetail(compose.url, api_key=compose.key) as client:
        undisturbed, digest = made(client, clip)
        compose.up("--scale", "worker=2", "--no-recreate")
        assert made(client, clip)[1] == digest

        job = client.submit(clip, scale=2, model=SLOW)
        begin = time.monotonic()
        while (now := client.get(job.id)).progress == 0:
            assert now.status in ("queued", "in_progress")
            time.sleep(0.1)
        docker("kill", *compose("ps", "--quiet", "worker").split()[:1])
        assert client.wait(job.id, timeout=180).status == "completed"
        assert time.monotonic() - begin < undisturbed + 30
        path = client.download(job.id, clip.with_name("killed.mp4"))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_upload_poll_and_download_with_curl(compose: Compose, clip: Path, tmp_path: Path) -> None:
    """The README's lines, with the key that compose shows."""
    script = """
        set -euo pipefail
        id=$(curl --fail -F file=@"$CLIP" -F scale=2 -F model=bicubic "$URL/v1/jobs" -H "$KEY" | jq -r .id)
        for _ in $(seq 240); do
          status=$(curl --fail "$URL/v1/jobs/$id" -H "$KEY" | jq -r .status)
          [ "$status" != completed ] || break
          sleep 0.5
        done
        curl --fail -o made.mp4 "$URL/v1/jobs/$id/content" -H "$KEY"
        curl -o /dev/null -w '%{http_code}' "$URL/v1/jobs/$id"
    """
    environment = {"CLIP": str(clip), "URL": compose.url, "KEY": f"Authorization: Bearer {compose.key}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "401"
    old, new = probe(clip).video, probe(tmp_path / "made.mp4").video
    assert (new.width, new.height) == (2 * old.width, 2 * old.height)


def test_prometheus_of_the_overlay_sees_the_api_and_the_worker(compose: Compose) -> None:
    compose("up", "--detach", "prometheus")
    address = compose.address("prometheus", 9090)
    waiting = {
        'up{job="dovetail-api"} == 1',
        'up{job="dovetail-worker"} == 1',
        'dovetail_jobs{job="dovetail-api"}',
        # Each worker's own.
        '{__name__=~"dovetail_.+",job="dovetail-worker"}',
    }
    deadline = time.monotonic() + 90
    while waiting:
        assert time.monotonic() < deadline, (waiting, compose("logs", "prometheus"))
        with suppress(httpx.TransportError):
            waiting = {query for query in waiting if not asked(address, query)}
        time.sleep(1)
    found = httpx.get(f"{address}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    alerts = yaml.safe_load((ROOT / "deploy/alerts/dovetail.yaml").read_text())["groups"][0]["rules"]
    assert [rule["name"] for rule in found] == [rule["alert"] for rule in alerts]


def asked(address: str, query: str) -> list[object]:
    """Series of a query, none while Prometheus is not ready."""
    answer = httpx.get(f"{address}/api/v1/query", params={"query": query})
    return answer.json()["data"]["result"] if answer.is_success else []


def test_everything_is_kept_over_a_restart(compose: Compose, clip: Path) -> None:
    with Dovetail(compose.url, api_key=compose.key) as client:
        job = client.wait(client.submit(clip, scale=1.5, model="bicubic").id, timeout=120)
    compose("down", "--timeout", "30")
    compose.up()
    # The key's container ran again and found the key there.
    key = compose("exec", "-T", "api", "cat", "/data/api-key").strip()
    with Dovetail(compose.url, api_key=key) as client:
        assert client.get(job.id).status == "completed"
        assert client.download(job.id, clip.with_name("kept.mp4")).stat().st_size > 0


def test_nothing_listens_to_the_world_and_only_dovetail_reaches_valkey(compose: Compose) -> None:
    assert compose("port", "api", "8000").startswith("127.0.0.1:")
    found = compose("exec", "-T", "api", "/opt/dovetail/bin/python", "-c", _REACH)
    assert found.strip() == "reached"
    container = compose("ps", "--quiet", "valkey").strip()
    address = docker(
        "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", container
    ).stdout.split()
    assert len(address) == 1
    outside = docker(
        *("run", "--rm", "--entrypoint", "/opt/dovetail/bin/python", "dovetail-api", "-c"),
        _REACH.replace("valkey", address[0]),
        check=False,
    )
    assert outside.stdout.strip() != "reached"


_REACH = """
import socket
socket.create_connection(("valkey", 6379), timeout=3)
print("reached")
"""
