"""(a) The tests that need a GPU, as a table of outcomes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gpu.kit import ROOT, Kit, rounded

NAME = "tests"
# Where tests are marked `needs_cuda`. Not all of tests/: collecting the others needs packages of the service.
FOLDERS = (
    "tests/gpu",
    "tests/pipelines/test_execution.py",
    "tests/pipelines/dove/test_pipeline.py",
    "tests/pipelines/per_frame/test_model.py",
)
MAX_SECONDS = 480
MAX_MESSAGE = 1500


def answer(kit: Kit) -> bool:
    """Runs them.

    Returns:
        Whether they ran to their end.
    """
    if kit.load(NAME).get("is_complete"):
        return True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", *FOLDERS, "-q", f"--junitxml={path}"]
        command += ["-p", "no:cacheprovider", "-m", "needs_cuda" if kit.device.type == "cuda" else "not slow"]
        # Other versions of torch deprecate other things; that is no answer to this question.
        command += ["-W", "default"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DOVETAIL_REQUIRE_CUDA": "1" if kit.device.type == "cuda" else "0",
        }
        seconds = min(max(kit.remaining() - 10, 30), MAX_SECONDS)
        try:
            finished = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                timeout=seconds,
                capture_output=True,
                text=True,
                check=False,
            )
            output, is_complete = finished.stdout + finished.stderr, finished.returncode in (0, 1)
        except subprocess.TimeoutExpired as error:
            output, is_complete = f"{error}; {_text(error.stdout)}", False
        values = read_junit(path) if path.exists() else {}
    print(output[-MAX_MESSAGE:], flush=True)
    if not is_complete:
        values["error"] = output[-MAX_MESSAGE:]
    kit.save(NAME, {"is_complete": is_complete, **values})
    return is_complete


def read_junit(path: Path) -> dict[str, Any]:
    """Outcomes, times, messages and recorded properties of a JUnit file."""
    tests = [_read_case(case) for case in ET.parse(path).getroot().iter("testcase")]
    return {"outcomes": dict(Counter(test["outcome"] for test in tests)), "tests": tests}


def _read_case(case: ET.Element) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": f"{case.get('classname', '')}::{case.get('name', '')}",
        "outcome": "passed",
        "seconds": rounded(float(case.get("time", 0))),
    }
    for outcome in ("failure", "error", "skipped"):
        if (element := case.find(outcome)) is not None:
            values["outcome"] = "failed" if outcome == "failure" else outcome
            values["message"] = (element.text or element.get("message") or "")[-MAX_MESSAGE:]
    properties = {item.get("name", ""): item.get("value") for item in case.iter("property")}
    return values | ({"measured": properties} if properties else {})


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
