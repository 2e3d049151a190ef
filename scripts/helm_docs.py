"""Writes the values in the chart's README from the comments of its values.yaml. `--check` only compares."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent.parent / "deploy/helm/dovetail"
BEGIN, END = "<!-- values: written by scripts/helm_docs.py -->\n", "<!-- end of values -->\n"
_KEY = re.compile(r"^( *)([\w.-]+):")
_LONGEST_DEFAULT = 100


def main() -> None:
    """Writes the table, or says that it should be written."""
    document = CHART / "README.md"
    current = document.read_text(encoding="utf-8")
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = before + BEGIN + table((CHART / "values.yaml").read_text(encoding="utf-8")) + END + after
    if "--check" in sys.argv[1:]:
        sys.exit(0 if text == current else f"{document} is out of date: run 'make docs'")
    document.write_text(text, encoding="utf-8")


def table(values: str) -> str:
    """Markdown: a row for every described value.

    Raises:
        SystemExit: If a value has no description, nor has what it is in.
    """
    defaults = yaml.safe_load(values)
    described = dict(descriptions(values))
    missing = [
        ".".join(path)
        for path in leaves(defaults)
        if not any(path[:length] in described for length in range(1, len(path) + 1))
    ]
    if missing:
        sys.exit(f"values.yaml does not describe {', '.join(missing)}")
    rows = (
        f"| `{'.'.join(path)}` | {shown(defaults, path)} | {text} |\n" for path, text in described.items()
    )
    return "\n| value | default | meaning |\n|---|---|---|\n" + "".join(rows) + "\n"


def descriptions(values: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of keys and the comments above them that begin with "# -- "."""
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in values.splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            comment = [text.removeprefix("# -- ")]
        elif text.startswith("# ") and comment:
            comment.append(text.removeprefix("# "))
        elif found := _KEY.match(line):
            indent = len(found[1])
            parents = [parent for parent in parents if parent[0] < indent] + [(indent, found[2])]
            if comment:
                yield tuple(name for _, name in parents), " ".join(comment)
            comment = []
        else:
            comment = []


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of everything that is no map, and of empty maps."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def shown(values: Any, path: tuple[str, ...]) -> str:
    """A default as one would write it; nothing where it is empty or long."""
    for name in path:
        values = values[name]
    if values is None:
        return "null"
    if values in ("", [], {}):
        return ""
    text = json.dumps(values) if not isinstance(values, str) else values
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see values.yaml"


if __name__ == "__main__":
    main()
