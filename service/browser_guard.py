"""Keeps web pages of strangers from using a server that asks for no key.

A server on loopback trusts whoever reaches it. A browser on this machine reaches it too, on behalf of any
page it shows: a form may be sent across origins without asking (CSRF), and a name that a page's owner lets
point to 127.0.0.1 makes the page the same origin (DNS rebinding). So without keys the request must name this
machine, and may come from no other page than ours.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from service.errors import ForbiddenError


def check_page(request: Request, *, allowed_origins: tuple[str, ...], own_host: str) -> None:
    """Looks at where a request says it goes to and comes from.

    Args:
        request: The request.
        allowed_origins: Origins of other pages that are trusted.
        own_host: Address the server listens on.

    Raises:
        ForbiddenError: If it names another host than this machine, or comes from another page.
    """
    host = request.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if not _is_this_machine(name, own_host):
        raise ForbiddenError(f"without API keys this server answers to local names only, not to {name!r}")
    origin = request.headers.get("origin")
    if origin and origin not in allowed_origins and urlsplit(origin).netloc != host:
        raise ForbiddenError(f"without API keys this server takes no requests from pages of {origin}")


def _is_this_machine(name: str, own_host: str) -> bool:
    if name in ("localhost", own_host) or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
