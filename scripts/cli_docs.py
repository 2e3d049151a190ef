"""Writes the list of options in docs/cli.md from the commands themselves. `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperGroup
from typer.main import get_command

from cli.main import app

DOCUMENT = Path(__file__).parent.parent / "docs" / "cli.md"
BEGIN, END = "<!-- options: written by scripts/cli_docs.py -->\n", "<!-- end of options -->\n"


def main() -> None:
    """Writes the document, or says that it should be written."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = before + BEGIN + describe_commands() + END + after
    if "--check" in sys.argv[1:]:
        sys.exit(0 if current == text else "docs/cli.md is out of date: run 'make docs'")
    DOCUMENT.write_text(current, encoding="utf-8")


def describe_commands() -> str:
    """Markdown: a heading and a table for every command."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return "".join(describe_group("dovetail", group)) + "\n"


def describe_group(prefix: str, group: TyperGroup) -> Iterator[str]:
    """Markdown for the commands of a group and of the groups in it."""
    for name, command in group.commands.items():
        yield f"\n### {prefix} {name}\n\n{paragraphs(command.help or '')}\n"
        if isinstance(command, TyperGroup):
            yield from describe_group(f"{prefix} {name}", command)
            continue
        yield "\n| option | value | default | meaning |\n|---|---|---|---|\n"
        yield from (row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False))


def paragraphs(text: str) -> str:
    """Joins the lines of each paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def row(parameter: Any) -> str:
    """One line of the table."""
    if parameter.param_type_name == "argument":
        names, value = [parameter.metavar or parameter.name.upper()], ""
    else:
        names, value = [*parameter.opts, *parameter.secondary_opts], value_of(parameter)
    default = parameter.default
    if parameter.secondary_opts and default is not None:
        default = names[0] if default else parameter.secondary_opts[0]
    shown = "" if default is None or default is False else str(default)
    cells = [", ".join(f"`{name}`" for name in names), value, shown, parameter.help or ""]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def value_of(option: Any) -> str:
    """What an option takes: a name for the value, or the choices."""
    annotation = option.type_descriptor.annotation
    if annotation is bool:
        return ""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    names = {int: "N", float: "NUMBER", str: "NAME", list[str]: "NAME", Path: "PATH"}
    return option.metavar or names.get(annotation, "VALUE")


if __name__ == "__main__":
    main()
