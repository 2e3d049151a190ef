from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from cli.exit_codes import MEANINGS, ExitCode

ROOT = Path(__file__).parents[2]
Dovetail = Callable[..., Result]


def test_help_does_not_load_torch() -> None:
    code = "import sys, cli.main; sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'av')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_exit_codes_are_in_the_help_and_in_the_documentation(dovetail: Dovetail) -> None:
    text = " ".join(dovetail("upscale", "--help").stdout.split())
    documentation = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"{code.value}: {MEANINGS[code]}" in text
        assert f"| {code.value} | {MEANINGS[code]} |" in documentation


def test_every_error_of_our_packages_has_an_exit_code() -> None:
    import media.errors
    import pipelines.errors
    import pipelines.store.errors
    import workers.errors
    from cli.exit_codes import exit_code_for

    for module in (media.errors, pipelines.errors, pipelines.store.errors, workers.errors):
        bases = {"MediaError", "PipelineError", "StoreError", "UpscaleError"}
        for name, value in vars(module).items():
            if isinstance(value, type) and hasattr(value, "code") and name not in bases:
                assert exit_code_for(value.code) is not ExitCode.UNEXPECTED, name


def test_probe_shows_streams(clip: Path, dovetail: Dovetail) -> None:
    text = dovetail("probe", clip).stdout
    assert "h264 64x48, 25 fps" in text
    assert "aac 16000 Hz mono" in text
    values = json.loads(dovetail("probe", clip, "--json").stdout)
    assert values["video"]["time_base"] == "1/12800"


def test_probe_refuses_what_is_no_video(tmp_path: Path, dovetail: Dovetail) -> None:
    (tmp_path / "text.mp4").write_text("text")
    assert dovetail("probe", tmp_path / "text.mp4").exit_code == 3
