"""Docker for these tests: the one of this machine or one of their own, with images built from this tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.made_clips import make_clip
from tests.deploy.conftest import IS_REQUIRED
from tests.deploy.containers.docker import ROOT, docker


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A daemon that answers; where tests of containers are required, one that is started for them."""
    if shutil.which("docker") and docker("info", check=False).returncode == 0:
        yield
        return
    # It would change the firewall of somebody's machine, and take minutes: not without being asked.
    if not IS_REQUIRED:
        pytest.skip("no Docker daemon answers; DOVETAIL_REQUIRE_DOCKER=1 starts one")
    folder = tmp_path_factory.mktemp("docker")
    started = subprocess.run(
        [ROOT / "scripts/start_docker.sh", folder], capture_output=True, text=True, check=False, timeout=300
    )
    assert started.returncode == 0, started.stderr
    daemon = psutil.Process(int((folder / "docker.pid").read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", started.stdout.strip())
        patch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
        yield
    daemon.terminate()
    daemon.wait(timeout=60)
    # Gigabytes, of which pytest would keep those of three runs.
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def images(docker_host: None) -> None:
    """`dovetail-api`, `dovetail-worker` and `dovetail-all`, built from this tree, and those beside them."""
    _do(ROOT / "scripts/install_compose.sh")
    _do(ROOT / "scripts/stand_in_images.sh")
    _do(sys.executable, ROOT / "scripts/build_images.py", "api", "worker", "all")


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=12)
