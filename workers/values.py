"""Plain JSON values from the values that travel between packages; pydantic reads them back by type."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from pydantic_core import to_jsonable_python


def to_json_value(value: Any) -> Any:
    """Turns dataclasses, mappings and sequences into what `json` writes.

    Fractions become strings ("30000/1001"; "25"), which keep them exact; bytes become hex, paths, dtypes and
    devices strings.

    Raises:
        TypeError: If there is no JSON for a value.
    """
    return to_jsonable_python(value, bytes_mode="hex", fallback=_text)


def _text(value: Any) -> str:
    if isinstance(value, Fraction | torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    raise TypeError(f"no JSON for a {type(value).__name__}")
