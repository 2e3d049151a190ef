"""Writes docs/settings.md from the settings classes and their docstrings. `--check` only compares."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobs.settings import CommonSettings, ServiceSettings, WorkerSettings

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"
INTRODUCTION = """# Settings of the service

<!-- written by scripts/settings_docs.py from jobs/settings.py: run 'make docs' -->

Environment variables, read when a process starts. Times are in seconds, or have a unit (`90s`, `15m`, `36h`,
`7d`, ISO 8601's `PT1M`), lists are JSON (`["example.com"]`). The S3 storage takes credentials, region and
endpoint from the usual `AWS_...` variables.
`DOVETAIL_LOG_LEVEL` is `debug`, `info` (default), `warning` or `error`.
"""
_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", re.MULTILINE)


def main() -> None:
    """Writes the document, or says that it should be written."""
    text = INTRODUCTION + "".join(
        section(title, settings)
        for title, settings in (
            ("All processes", CommonSettings),
            ("`dovetail api` and `serve`", ServiceSettings),
            ("`dovetail worker` and `serve`", WorkerSettings),
        )
    )
    if "--check" in sys.argv[1:]:
        current = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
        sys.exit(0 if current == text else "docs/settings.md is out of date: run 'make docs'")
    DOCUMENT.write_text(text, encoding="utf-8")


def section(title: str, settings: type[CommonSettings]) -> str:
    """A table of what a class adds to its base."""
    meanings = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(settings.__doc__ or "")}
    names = [name for name in settings.model_fields if name in meanings]
    missing = [
        name for name in settings.__annotations__ if name in settings.model_fields and name not in meanings
    ]
    if missing:
        sys.exit(f"{settings.__name__} does not document {', '.join(missing)}")
    rows = [
        f"| `DOVETAIL_{name.upper()}` | {shown(settings.model_fields[name].default)} | {meanings[name]} |\n"
        for name in names
    ]
    return f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n{''.join(rows)}"


def shown(default: Any) -> str:
    """A default as one would write it."""
    if default is None or default == ():
        return ""
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():g}`"
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in default) + "]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    main()
