"""The API does what its description says, whatever schemathesis sends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.installation import Installation
from tests.thorough import sized

HOOKS = "tests.whole.schemathesis_hooks"
# What a description cannot promise: that random bytes are a video, that a random host may be fetched from.
# And without keys, as this installation runs, there is nobody to turn away.
LEFT_OUT = "positive_data_acceptance,ignored_auth"
# They answer as long as a job runs; tests/service follows them.
LONG_ANSWERS = r"/(events|stream)$"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(installation: Installation, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{installation.url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", LEFT_OUT, "--exclude-path-regex", LONG_ANSWERS),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", sized("25", brief="5"), "--seed", "1"),
        *("--request-timeout", "30", "--workers", "1", "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(Path.cwd())}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-20_000:] + finished.stderr[-2000:]
