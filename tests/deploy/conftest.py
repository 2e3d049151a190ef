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
from tests.deploy.chart import PATH
from tests.deploy.docker import ROOT, docker

IS_REQUIRED = os.environ.get("DOVETAIL_REQUIRE_DOCKER") == "1"


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
    assert started.returncode == 0, started.stderr
    os.environ["DOCKER_HOST"] = started.stdout.strip()
    try:
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        subprocess.run(["kill", (folder / "docker.pid").read_text().strip()], check=True)


@pytest.fixture(scope="session")
def images(docker_host: None) -> None:
    """`dovetail-api`, `dovetail-worker` and `dovetail-all`, built from this tree."""
    for command in (
        [ROOT / "scripts/install_compose.sh"],
        [ROOT / "scripts/stand_in_images.sh"],
        [sys.executable, ROOT / "scripts/build_images.py", "api", "worker", "all"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=12)


@pytest.fixture(scope="session")
def helm_program() -> None:
    """Helm, as `tests.deploy.chart` finds it."""
    if shutil.which("helm", path=PATH):
        return
    if not IS_REQUIRED:
        pytest.skip("Helm is not installed; scripts/install_helm.sh does it")
    folder = Path(sys.executable).parent
    done = subprocess.run(
        [ROOT / "scripts/install_helm.sh", folder], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
