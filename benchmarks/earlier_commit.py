"""The code of an earlier commit, to be measured beside this one's."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]


def extract_commit(commit: str, folder: Path) -> Path:
    """Writes a commit's files into a folder.

    Returns:
        The folder.
    """
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder
