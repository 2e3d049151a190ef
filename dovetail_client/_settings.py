"""How a client reaches its service."""

from __future__ import annotations

import functools
import os
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
USER_AGENT = "dovetail-client"


def http_arguments(base_url: str | None, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments for either HTTP client, completed from DOVETAIL_URL and DOVETAIL_API_KEY.

    Args:
        base_url: Where the service is.
        api_key: Who asks.
        timeout: Seconds of silence before a request counts as failed.

    Raises:
        ValueError: If the URL is none, or the key could not be sent.
    """
    url = base_url or os.environ.get("DOVETAIL_URL") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"the service's URL is {url!r}; it looks like {DEFAULT_URL} or https://example.org/x"
        )
    key = api_key or os.environ.get("DOVETAIL_API_KEY") or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the API key has characters that no key has; is a line break among them?")
    authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {
        "base_url": url,
        "headers": {"User-Agent": USER_AGENT, **authorization},
        "verify": _tls_context(),
        # Results may come from the service's storage; the key does not go along to another host.
        "follow_redirects": True,
        "timeout": httpx.Timeout(timeout, connect=min(10.0, timeout)),
    }


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: reading the authorities' certificates takes 40 ms for each client."""
    return httpx.create_ssl_context()
