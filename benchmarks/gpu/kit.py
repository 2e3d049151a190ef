"""What all questions share: where answers go, the time that is left, and what machine answered."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
# Answers in one file are rounded to what repeats.
DIGITS = 4


@dataclass(frozen=True)
class Kit:
    """One visit to a machine.

    Attributes:
        output: Folder for answers.
        previous: Folder with answers of earlier visits, only read.
        device: Where models run.
        is_tiny: Toy sizes, which exercise the scripts and measure nothing.
        commit: Of the repository, where git cannot tell.
        deadline: Moment of `time.monotonic` at which all should be written.
    """

    output: Path
    previous: Path | None
    device: torch.device
    is_tiny: bool
    commit: str = ""
    deadline: float = field(default=float("inf"))

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def load(self, name: str) -> dict[str, Any]:
        """The newest answer of a question; {} if there is none or it is not of this device's kind."""
        for folder in (self.output, self.previous):
            path = folder / f"{name}.json" if folder is not None else None
            if path is not None and path.is_file():
                content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                if content["machine"]["device"] == self.device.type and content["is_tiny"] == self.is_tiny:
                    return content
        return {}

    def save(self, name: str, values: dict[str, Any]) -> None:
        """Writes an answer, whole or so far, with the machine and the command that gave it."""
        content = {
            "question": name,
            "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self._commit(),
            "is_tiny": self.is_tiny,
            "machine": describe_machine(self.device),
            **values,
        }
        self.output.mkdir(parents=True, exist_ok=True)
        partial = self.output / f"{name}.part"
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.rename(self.output / f"{name}.json")

    def _commit(self) -> str:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return self.commit or _output_of(command, cwd=ROOT) or "unknown"


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Card, driver and versions."""
    values: dict[str, Any] = {
        "device": device.type,
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call] # torch leaves it untyped
        "python": platform.python_version(),
    }
    if device.type != "cuda":
        return values | {"card": None, "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    properties = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return values | {
        "card": properties.name,
        "card_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "driver": (_output_of(query) or "unknown").splitlines()[0],
    }


def _output_of(command: list[str], *, cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        return ""
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return finished.stdout.strip() if finished.returncode == 0 else ""


def rounded(value: float) -> float:
    """A number with as many digits as repeat."""
    return float(f"{value:.{DIGITS}g}")
