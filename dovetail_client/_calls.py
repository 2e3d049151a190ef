"""Requests and answers, as they are before and after they travel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


@dataclass(frozen=True)
class Call:
    """A request whose answer is small.

    Attributes:
        path: Below the base URL, or an address of another server's, which the key does not go to.
        params: Query, names may repeat.
        json: Body as JSON value, or
        content: as bytes. A `bytearray` is sent in pieces, and its maker may clear it afterwards: libraries
            keep requests in reference cycles, and with them the memory of their bodies.
        is_repeatable: Whether it may be sent again when nobody knows what became of it; None decides by the
            method and Idempotency-Key.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | bytearray | None = None
    is_repeatable: bool | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether a repetition cannot do anything twice."""
        if self.is_repeatable is not None:
            return self.is_repeatable
        return self.method in REPEATABLE_METHODS or "Idempotency-Key" in self.headers

    def body(self) -> tuple[bytes | bytearray | None, dict[str, str]]:
        """The bytes to send and all headers."""
        headers = dict(self.headers)
        if self.json is None:
            if isinstance(self.content, bytearray):
                headers["Content-Length"] = str(len(self.content))
            return self.content, headers
        headers["Content-Type"] = "application/json"
        return json.dumps(self.json).encode(), headers


@dataclass(frozen=True)
class Answer:
    """An answer, whatever its status.

    Attributes:
        num_attempts: How often the request was sent.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    num_attempts: int = 1
