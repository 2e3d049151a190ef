"""The chart's containers as `docker run`: users, groups, read-only roots and probes, with the images."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dovetail_client import Dovetail
from tests.deploy.chart import Manifest, component, of_kind, pods, projected_files, rendered, resolved, secret
from tests.deploy.containers.docker import HARDENED, docker, published_address, running

pytestmark = [
    pytest.mark.needs_docker,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("images", "helm_program"),
]

_OWN_USERS = ('api.image.tag="latest"', 'worker.image.tag="latest"', 'models=["bicubic"]')
_ANY_USERS = (
    *_OWN_USERS,
    'podSecurity={"runAsUser": 1234567, "runAsGroup": 0, "fsGroup": 1234567}',
    'valkey={"runAsUser": 1234567, "fsGroup": 1234567}',
)


class Node:
    """Runs containers of rendered pods with Docker, with what their security contexts say.

    Args:
        manifests: Of the installation.
        folder: For files from Secrets.
    """

    def __init__(self, manifests: list[Manifest], folder: Path) -> None:
        self.manifests, self._folder = manifests, folder
        self.pods = {component(pod): pod for _, pod in pods(manifests)}
        self.name = f"dovetail-chart-{uuid.uuid4().hex[:8]}"
        (self._valkey,) = (name for name in of_kind(manifests, "Service") if name.endswith("-valkey"))

    def arguments(self, part: str, container: Manifest) -> list[str | Path]:
        """Of `docker run`, the image and what follows it included."""
        security = self.pods[part]["spec"]["securityContext"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        found: list[str | Path] = [
            *HARDENED[:1],
            *HARDENED[3:],
            *("--network", self.name, "--network-alias", self._valkey if part == "valkey" else part),
            *("--user", f"{security['runAsUser']}:{security['runAsGroup']}"),
            *("--group-add", str(security["fsGroup"])),
            *("--memory", container["resources"]["limits"]["memory"].removesuffix("i")),
        ]
        environment, arguments = resolved(self.manifests, container)
        for name, text in environment.items():
            found += ["--env", f"{name}={text}"]
        for mount in container["volumeMounts"]:
            found += self._mount(part, mount["name"], mount["mountPath"], security["fsGroup"])
        if "command" in container:
            found += ["--entrypoint", *container["command"]]
        return [*found, container["image"], *arguments]

    def _mount(self, part: str, name: str, path: str, group: int) -> list[str | Path]:
        """A kubelet gives a volume's root to the pod's group, and files of Secrets to nobody else."""
        if name == "tmp":
            return ["--tmpfs", "/tmp"]
        owner = "shared" if name == "data" and part != "valkey" else part
        target = self._folder / owner / name
        target.mkdir(parents=True, exist_ok=True)
        os.chown(target, 0, group)
        target.chmod(0o2775)
        for file, content in projected_files(self.manifests, self.pods[part], name).items():
            (target / file).write_text(content)
            os.chown(target / file, 0, group)
            (target / file).chmod(0o440)
        return ["--volume", f"{target}:{path}"]


def wait_for(name: str, command: list[str], *, seconds: float = 300) -> None:
    """Until an exec probe is content."""
    deadline = time.monotonic() + seconds
    while docker("exec", name, *command, check=False).returncode != 0:
        logs = docker("logs", name, check=False)
        assert time.monotonic() < deadline, logs.stdout + logs.stderr
        time.sleep(0.3)


@pytest.fixture(params=[_OWN_USERS, _ANY_USERS], ids=["own users", "any users"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    if os.getuid() != 0:
        pytest.skip("volumes are given to groups, which needs root")
    tmp_path.parent.chmod(0o755)
    node = Node(rendered(sets=request.param), tmp_path)
    docker("network", "create", node.name)
    try:
        yield node
    finally:
        docker("network", "rm", node.name)


def test_a_job_is_done_by_the_containers_of_the_chart(node: Node, clip: Path) -> None:
    with ExitStack() as stack:
        (valkey,) = node.pods["valkey"]["spec"]["containers"]
        server = stack.enter_context(running(*node.arguments("valkey", valkey)))
        wait_for(server, valkey["readinessProbe"]["exec"]["command"])

        spec = node.pods["api"]["spec"]
        for container in spec["initContainers"]:
            done = docker("run", "--rm", *node.arguments("api", container), check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        (container,) = spec["containers"]
        api = stack.enter_context(running("--publish", "127.0.0.1:0:8000", *node.arguments("api", container)))
        wait_for(api, ["dovetail-healthcheck", "http"])
        docker("exec", api, *container["lifecycle"]["preStop"]["exec"]["command"])

        spec = node.pods["worker"]["spec"]
        (container,) = spec["containers"]
        worker = stack.enter_context(running(*node.arguments("worker", container)))
        wait_for(worker, ["dovetail-healthcheck", "port"])

        key = secret(node.manifests, "release-dovetail-keys", "default")
        with Dovetail(published_address(api), api_key=key) as client:
            job = client.wait(client.submit(clip, scale=2).id, timeout=180)
        assert job.status == "completed"

        docker("stop", "--time", str(spec["terminationGracePeriodSeconds"]), worker, timeout=120)
        state = docker("inspect", "--format", "{{.State.ExitCode}}", worker).stdout.strip()
        assert state in ("0", "143"), docker("logs", worker).stderr[-3000:]
