"""Where the source of a job is fetched from, when it did not come with its request."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FetchedSource(BaseModel):
    """An address that a job's source comes from, and what its customer may have.

    Attributes:
        url: https:// or s3://.
        filename: What the customer calls it, or the end of the address.
        max_bytes: Of the source.
        max_output_pixels: Of the result; 0 is no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    filename: str
    max_bytes: int
    max_output_pixels: int = 0
