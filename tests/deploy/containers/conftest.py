"""Docker for these tests, with images built from this tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.made_clips import make_clip
from tests.deploy.conftest import IS_REQUIRED
from tests.deploy.containers.docker import ROOT, docker


@pytest.fixture(scope="session")
def docker_host() -> None:
    """A daemon that answers."""
    if shutil.which("docker") and docker("info", check=False).returncode == 0:
        return
    missing = "no Docker daemon answers; scripts/start_docker.sh starts one"
    assert not IS_REQUIRED, missing
    # Tests by hand, without a daemon: starting one changes the machine's firewall, for its owner to decide.
    # CI starts one, and requires it.
    pytest.skip(missing)


@pytest.fixture(scope="session")
def images(docker_host: None) -> None:
    """`dovetail-api`, `dovetail-worker` and `dovetail-all` as this tree has them, and those beside them."""
    done = subprocess.run(
        ["make", "images"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=12)
