"""Docker for these tests: the one of this machine or one of their own, with images built from this tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.made_clips import make_clip
from tests.deploy.conftest import IS_REQUIRED
from tests.deploy.containers.docker import ROOT, docker

# What `scripts/start_docker.sh` exits with where no daemon can run, whatever is installed.
_IMPOSSIBLE = 3


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A daemon that answers. One is started only where it is required, since it changes the firewall."""
    if shutil.which("docker") and docker("info", check=False).returncode == 0:
        yield
        return
    if not IS_REQUIRED:
        pytest.skip("no Docker daemon answers; DOVETAIL_REQUIRE_DOCKER=1 starts one")
    folder = tmp_path_factory.mktemp("docker")
    started = subprocess.run(
        [ROOT / "scripts/start_docker.sh", folder], capture_output=True, text=True, check=False, timeout=300
    )
    if started.returncode == _IMPOSSIBLE:
        pytest.skip(f"Docker cannot run on this machine: {started.stderr[-500:]}")
    assert started.returncode == 0, started.stderr
    before = {name: os.environ.get(name) for name in ("DOCKER_HOST", "PATH")}
    os.environ["DOCKER_HOST"] = started.stdout.strip()
    os.environ["PATH"] = f"{folder / 'bin'}:{before['PATH']}"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        if (pid := folder / "docker.pid").exists():
            subprocess.run(["kill", pid.read_text().strip()], check=True)


@pytest.fixture(scope="session")
def images(docker_host: None) -> None:
    """`dovetail-api`, `dovetail-worker` and `dovetail-all`, built from this tree, and those beside them."""
    _do(ROOT / "scripts/install_compose.sh")
    _do(ROOT / "scripts/stand_in_images.sh")
    tried = docker("run", "--rm", "--network", "none", "debian:bookworm-slim", "true", check=False)
    if tried.returncode != 0:
        pytest.skip(f"containers cannot run on this machine: {tried.stderr[-500:]}")
    _do(sys.executable, ROOT / "scripts/build_images.py", "api", "worker", "all")


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=12)
