"""Links in what is sent to customers who did not ask, and so do not know the server's address."""

from __future__ import annotations

from typing import Any


def with_absolute_links(data: dict[str, Any], public_url: str | None) -> dict[str, Any]:
    """A job or batch with the server's address before its links.

    Args:
        data: As JSON values, with paths under `links`.
        public_url: How customers reach the server; None leaves the paths.
    """
    if public_url is None:
        return data
    base = public_url.rstrip("/")
    return {**data, "links": {name: base + path for name, path in data["links"].items()}}
