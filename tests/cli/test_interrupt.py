"""Signals to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.workers.made import video_packets

ROOT = Path(__file__).parents[2]
OPTIONS = ("-m", "bicubic", "-s", "2", "--preset", "ultrafast", "--segment-seconds", "0.5", "-q")

# The process sends itself the signal when so many frames are written, so that the moment is always the same.
STOPPED_RUN = """
    import os, signal, sys
    import cli.upscale
    from cli.main import app

    # Tests that run in the background of a shell inherit an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Stopping:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def begin(self, name):
            return lambda progress: progress.num_done == 37 and os.kill(os.getpid(), int(sys.argv.pop()))

    cli.upscale.make_display = lambda is_quiet: Stopping()
    app(sys.argv[1:-1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_does(
    clip: Path, tmp_path: Path, dovetail: Callable[..., Result], number: int
) -> None:
    out = tmp_path / "out.mp4"
    arguments = ("upscale", str(clip), str(out), *OPTIONS)
    done = subprocess.run(
        [sys.executable, "-X", "forked", "-c", textwrap.dedent(STOPPED_RUN), *arguments, str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("interrupted\n")
    assert "--resume continues" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("**/*.part"))
    assert dovetail(*arguments, "--resume").exit_code == 0
    assert dovetail("upscale", clip, tmp_path / "whole.mp4", *OPTIONS).exit_code == 0
    assert video_packets(out) == video_packets(tmp_path / "whole.mp4")
