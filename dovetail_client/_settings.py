"""How a client reaches its service."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
USER_AGENT = "dovetail-client"


@dataclass(frozen=True)
class ConnectionSettings:
    """Where the service is, who asks, and for how long.

    Attributes:
        timeout_seconds: Of silence before a request counts as failed.
    """

    base_url: str
    api_key: str | None
    timeout_seconds: float

    def http_arguments(self) -> dict[str, Any]:
        """Arguments for either HTTP client."""
        headers = {"User-Agent": USER_AGENT}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.base_url,
            "headers": headers,
            "verify": _tls_context(),
            # Results may come from the service's storage; the key does not go along to another host.
            "follow_redirects": True,
            "timeout": httpx.Timeout(self.timeout_seconds, connect=min(10.0, self.timeout_seconds)),
        }


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: reading the authorities' certificates takes 40 ms for each client."""
    return httpx.create_ssl_context()


def connection_settings(
    base_url: str | None,
    api_key: str | None,
    timeout: float,
    *,
    environ: Mapping[str, str] = os.environ,
) -> ConnectionSettings:
    """Completes what was given from DOVETAIL_URL and DOVETAIL_API_KEY.

    Raises:
        ValueError: If the URL is none, or the key could not be sent.
    """
    url = base_url or environ.get("DOVETAIL_URL") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"the service's URL is {url!r}; it looks like {DEFAULT_URL} or https://example.org/x"
        )
    key = api_key or environ.get("DOVETAIL_API_KEY") or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the API key has characters that no key has; is a line break among them?")
    return ConnectionSettings(base_url=url, api_key=key, timeout_seconds=timeout)
