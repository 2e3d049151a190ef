"""Helm for these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.chart import PATH, ROOT

IS_REQUIRED = os.environ.get("DOVETAIL_REQUIRE_DOCKER") == "1"


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
