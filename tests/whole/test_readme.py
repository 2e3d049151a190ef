"""What the README tells a newcomer to type, typed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import av
import httpx
import pytest

from benchmarks.installation import Installation
from dovetail_client import Dovetail

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def commands() -> list[str]:
    """The commands of the service's quick start."""
    match = re.search(
        r"<!-- service quick start.*?```bash\n(.*?)```\n<!-- end -->",
        README.read_text(encoding="utf-8"),
        re.S,
    )
    assert match is not None
    return match.group(1).splitlines()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is missing")
def test_quick_start_uploads_polls_and_downloads(
    commands: list[str], installation: Installation, clip: Path, tmp_path: Path
) -> None:
    shutil.copy(clip, tmp_path / "clip.mp4")
    *before, download = [command.replace(ADDRESS, installation.url) for command in commands]
    # Polling once is enough here: waiting is the client's.
    script = "\n".join(["set -euo pipefail", *before])
    finished = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert '"object":"job"' in finished.stdout.replace(" ", "")
    job_id = re.search(r"job_[0-9a-z]{26}", finished.stdout)
    assert job_id is not None
    with Dovetail(installation.url) as client:
        job = client.wait(job_id.group(), timeout=120)
    subprocess.run(
        ["bash", "-c", f"job={job.id}\n{download}"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    with av.open(str(tmp_path / "clip-2x.mp4")) as result, av.open(str(clip)) as source:
        assert (result.streams.video[0].width, result.streams.video[0].height) == (128, 96)
        assert sum(1 for _ in result.decode(video=0)) == sum(1 for _ in source.decode(video=0))
        assert result.streams.audio


def test_web_page_and_description_are_served(installation: Installation) -> None:
    assert "text/html" in httpx.get(f"{installation.url}/").headers["content-type"]
    assert "/v1/jobs" in httpx.get(f"{installation.url}/openapi.json").json()["paths"]
