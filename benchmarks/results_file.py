"""How a benchmark's numbers are kept: with the command and the machine that made them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, values: dict[str, Any], *, folder: Path = RESULTS) -> None:
    """Prints the numbers and writes them to `<name>.json`.

    Args:
        name: Of the benchmark's module.
        values: What it found.
        folder: Where to write.
    """
    content = {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        **values,
    }
    text = json.dumps(content, indent=2)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text + "\n")
