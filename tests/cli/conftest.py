from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.workers.made import make_video


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames, two seconds, with sound."""
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", 50, has_sound=True)


Dovetail = Callable[..., Result]


@pytest.fixture
def dovetail() -> Dovetail:
    """Runs the command in this process."""

    def run(*arguments: str | Path, stdin: str = "") -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run
