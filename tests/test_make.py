"""The Makefile asks for what its callers ask for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_environment_is_made_by_the_interpreter_that_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", f"VENV={tmp_path}", f"{tmp_path}/.installed"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": "/nowhere/python3.99"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; '/nowhere/python3.99' is" in done.stderr
    assert not (tmp_path / "bin").exists()
