"""Manifests: many inputs as text, one a line. Pure: what is wrong with a line is told, and stops no other."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

from jobs.options import JobOptions
from service.errors import InvalidRequestError, MalformedRequestError

_SOURCES = ("upload_id", "url")
_OPTIONS = frozenset(JobOptions.model_fields)
_TEXTS = ("filename", "priority", "deliver_to")
COLUMNS = frozenset({*_SOURCES, *_TEXTS}) | _OPTIONS
_JSON_ONLY = frozenset({"labels", "metadata"})


@dataclass(frozen=True)
class Line:
    """One input as it stands in a manifest.

    Attributes:
        number: Of the line, from 1; None in a JSON list.
        content: What a `BatchInputRequest` is made of; None if the line cannot be read.
        problem: Why it cannot be.
    """

    number: int | None
    content: Any = None
    problem: str = ""


def read_description(text: str) -> list[Line]:
    """Inputs of a manifest: JSON Lines if it begins with a brace, else CSV.

    Raises:
        MalformedRequestError: If it is CSV that cannot be read.
        InvalidRequestError: If it is CSV with unknown columns or without a source.
    """
    return read_json_lines(text) if text.lstrip("\ufeff \t\r\n").startswith("{") else read_csv(text)


def read_json_lines(text: str) -> list[Line]:
    """Inputs of JSON Lines: each a `BatchInputRequest`, or flat as the columns of CSV. Empty lines are
    skipped."""
    lines = []
    for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            lines.append(Line(number, problem=f"the line is no JSON: {error}"))
            continue
        if not isinstance(value, dict):
            lines.append(Line(number, problem="the line is no JSON object"))
        elif "source" in value:
            lines.append(Line(number, value))
        else:
            lines.append(_from_flat(number, value, known=COLUMNS | _JSON_ONLY))
    return lines


def read_csv(text: str) -> list[Line]:
    """Inputs of CSV with a header: upload_id or url, filename, priority, deliver_to, and options by
    name. An empty field
    leaves its option to the batch.

    Raises:
        MalformedRequestError: If it cannot be read as CSV.
        InvalidRequestError: If its header has unknown or repeated columns, or none for the source.
    """
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    lines: list[Line] = []
    header: list[str] = []
    try:
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if not header:
                header = _check_header([field.strip() for field in row])
            elif len(row) > len(header):
                lines.append(
                    Line(reader.line_num, problem=f"{len(row)} fields, the header has {len(header)}")
                )
            else:
                values = {
                    name: field.strip() for name, field in zip(header, row, strict=False) if field.strip()
                }
                lines.append(_from_flat(reader.line_num, values, known=COLUMNS))
    except csv.Error as error:
        raise MalformedRequestError(f"line {reader.line_num} of the manifest is no CSV: {error}") from error
    return lines


def _check_header(header: list[str]) -> list[str]:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or len(set(header)) < len(header) or not set(header) & set(_SOURCES):
        raise InvalidRequestError(
            f"the manifest's first line names the columns {', '.join(header)[:200]}; it takes upload_id or "
            f"url, and {', '.join(sorted(COLUMNS - set(_SOURCES)))}",
            errors=[
                {"loc": ["body", "manifest", 1], "message": "unknown column", "received": unknown[0][:200]}
            ]
            if unknown
            else (),
        )
    return header


def _from_flat(number: int, values: dict[str, Any], *, known: frozenset[str]) -> Line:
    """A `BatchInputRequest`'s content from columns."""
    unknown = [name for name in values if name not in known]
    if unknown:
        return Line(number, problem=f"unknown are {', '.join(unknown)[:200]}")
    named = [name for name in _SOURCES if values.get(name)]
    if len(named) != 1:
        return Line(number, problem="give either upload_id or url")
    [kind] = named
    content: dict[str, Any] = {
        "source": {"type": "upload" if kind == "upload_id" else "url", kind: values[kind]},
        "options": {name: value for name, value in values.items() if name in _OPTIONS},
    }
    for name in (*_TEXTS, *_JSON_ONLY):
        if values.get(name) is not None:
            content[name] = values[name]
    return Line(number, content)
