"""What is kept, and exchanged between processes, as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A value that never changes; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
