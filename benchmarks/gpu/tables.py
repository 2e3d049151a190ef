"""Tables of what GPUs answered, for the README; "not measured" where nothing has.

python -m benchmarks.gpu.tables
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.kit import RESULTS

NOT_MEASURED = "not measured"
SIZES = ("720p", "1440p", "2160p")
PATHS = ("plain", "exact", "recommended", "fast")


def main() -> None:
    """Prints all tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    print(all_tables(parser.parse_args().results))


def all_tables(folder: Path) -> str:
    """All tables of a folder of results, as they stand in the README."""
    return "\n\n".join([speed_table(folder), memory_table(folder), item_table(folder), source(folder)])


def read(folder: Path, name: str) -> dict[str, Any]:
    """An answer; {} if there is none or it is of toy sizes."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {} if content["is_tiny"] or content["machine"]["device"] != "cuda" else content


def speed_table(folder: Path) -> str:
    """Frames per second by size and way."""
    rows = read(folder, "sizes").get("rows", {})
    lines = [
        [
            size,
            tiling,
            *(_value(rows.get(f"{size} {tiling} {path}"), "frames_per_second", "{:.2f}") for path in PATHS),
        ]
        for size in SIZES
        for tiling in ("untiled", "tiled")
    ]
    return _table(["frames per second", "", *PATHS], lines)


def memory_table(folder: Path) -> str:
    """Peak of activations beside the plan's estimate, in GiB."""
    rows = read(folder, "sizes").get("rows", {})
    lines = []
    for size in SIZES:
        for tiling in ("untiled", "tiled"):
            cells = []
            for path in PATHS:
                row = rows.get(f"{size} {tiling} {path}")
                peak, plan = (
                    _value(row, name, "{:.1f}", 2**30) for name in ("peak_bytes", "estimated_bytes")
                )
                # The script's own tiles are no plan of ours and have no estimate.
                cells.append(peak if peak == plan or plan == "0.0" else f"{peak} / {plan}")
            lines.append([size, tiling, *cells])
    return _table(["peak / estimate, GiB", "", *PATHS], lines)


def item_table(folder: Path) -> str:
    """Speed and memory of each option alone."""
    rows = read(folder, "items").get("rows", {})
    if not rows:
        return _table(["option", "speed", "peak, GiB"], [[NOT_MEASURED] * 3])
    lines = [
        [name, _value(row, "speed", "{:.2f}x"), _value(row, "peak_bytes", "{:.1f}", 2**30)]
        for name, row in rows.items()
    ]
    return _table(["option", "speed", "peak, GiB"], lines)


def source(folder: Path) -> str:
    """Which machine and commit the numbers are of."""
    content = read(folder, "sizes") or read(folder, "items")
    if not content:
        return f"On a GPU: {NOT_MEASURED} yet."
    machine = content["machine"]
    return (
        f"{machine['card']}, driver {machine['driver']}, torch {machine['torch']}, cuDNN {machine['cudnn']}, "
        f"commit {content['commit']}, `{content['command']}`"
    )


def _value(row: dict[str, Any] | None, name: str, text: str, unit: float = 1) -> str:
    if row is None:
        return NOT_MEASURED
    if name not in row:
        return "cannot" if "error" in row else NOT_MEASURED
    return text.format(row[name] / unit)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
