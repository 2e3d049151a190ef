"""The web page on the real service: the tests of `tests/web/test_whole.py`, which otherwise run on a fake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.installation import Installation
from tests.web.conftest import BROWSER

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_page_works_on_the_real_service(installation: Installation) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/web/test_whole.py"],
        cwd=ROOT,
        env={**os.environ, "DOVETAIL_WEB_URL": installation.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-8000:]
    assert " passed" in finished.stdout
