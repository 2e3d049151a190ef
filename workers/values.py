"""Plain JSON values from the dataclasses that travel between packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch


def to_json_value(value: Any) -> Any:
    """Turns dataclasses, mappings and sequences into what `json` writes.

    Fractions become strings ("30000/1001"; "25"), which keep them exact; bytes become hex, paths and dtypes
    strings.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item) for item in value]
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Fraction | Path | torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    raise TypeError(f"no JSON for a {type(value).__name__}")
