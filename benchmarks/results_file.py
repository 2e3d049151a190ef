"""How a benchmark's numbers are kept: with the command and the machine that made them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# Virtual processors hide their model; what they can do is told apart by the newest of these.
_NEWEST = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}


def machine() -> dict[str, Any]:
    """The processor's name (such as "Intel(R) Xeon(R) Processor, AMX") and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = set(facts.get("flags", "").split())
    newest = next((name for flag, name in _NEWEST.items() if flag in flags), None)
    return {
        "cpu": ", ".join(filter(None, (facts.get("model name", "unknown"), newest))),
        "cores": os.cpu_count(),
    }


def write_results(
    name: str, values: dict[str, Any], *, variant: str | None = None, folder: Path = RESULTS
) -> None:
    """Prints the numbers and writes them to `<name>.json`.

    Args:
        name: Of the benchmark's module.
        values: What it found.
        variant: Of several files of one benchmark: `<name>-<variant>.json`.
        folder: Where to write.
    """
    # Where a folder lies on this machine says nothing to others.
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    content = {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **values,
    }
    text = json.dumps(content, indent=2)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{'-'.join(filter(None, (name, variant)))}.json").write_text(text + "\n")
