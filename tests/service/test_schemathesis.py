"""The API does what its description says, whatever schemathesis sends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.api_keys import Scope
from jobs.settings import ServiceSettings
from tests.service.conftest import Api, running_api
from tests.thorough import IS_THOROUGH, sized

HOOKS = "tests.service.schemathesis_hooks"
# What a description cannot promise: that random bytes are a video, that a random host may be fetched from.
# Without keys there is nobody to turn away either.
UNPROMISED = "positive_data_acceptance"
# They answer as long as a job runs; tests/service follows them.
LONG_ANSWERS = r"/(events|stream)$"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not IS_THOROUGH, reason="where keys are used more is promised; make test-thorough does both"
)
def test_schemathesis_finds_nothing(api: Api, tmp_path: Path) -> None:
    check_with_schemathesis(api.url, tmp_path, left_out=f"{UNPROMISED},ignored_auth")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_where_keys_are_used(settings: ServiceSettings, tmp_path: Path) -> None:
    patient = settings.model_copy(update={"requests_per_minute": 1_000_000})
    with running_api(patient, uses_keys=True) as api:
        _, headers = api.make_key(Scope.ADMIN)
        check_with_schemathesis(api.url, tmp_path, left_out=UNPROMISED, headers=headers)


def check_with_schemathesis(
    url: str, folder: Path, *, left_out: str, headers: Mapping[str, str] | None = None
) -> None:
    """Sends what it thinks of to an API, and fails where an answer is not as described."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", left_out, "--exclude-path-regex", LONG_ANSWERS),
        *(part for name, value in (headers or {}).items() for part in ("--header", f"{name}: {value}")),
        *("--phases", sized("examples,coverage,fuzzing", brief="examples,fuzzing"), "--seed", "1"),
        *("--max-examples", sized("25", brief="6")),
        *("--request-timeout", "30", "--workers", "1", "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(Path.cwd())}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-20_000:] + finished.stderr[-2000:]
