"""Keeps strangers, and their web pages, from using a server that asks for no key.

A server on loopback trusts whoever reaches it. A browser on this machine reaches it too, on behalf of any
page it shows: a form may be sent across origins without asking (CSRF), and a name that a page's owner lets
point to 127.0.0.1 makes the page the same origin (DNS rebinding). So without keys the request must name this
machine, and may come from no other page than ours.

A proxy on this machine reaches it as well, on behalf of anybody, and may well name this machine. Proxies say
that they are in the way; a request that says so needs a key.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from service.errors import ForbiddenError

# RFC 7239, RFC 9110, and what nginx, Caddy, Envoy, Cloudflare, Akamai, Fastly and load balancers add.
_FORWARDED = ("x-forwarded", "x-envoy-", "cf-", "x-original-")
_FORWARDING_HEADERS = frozenset({
    "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
    "fastly-client-ip", "x-proxyuser-ip", "x-appengine-user-ip", "x-azure-clientip", "x-azure-socketip",
})  # fmt: skip


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


def check_not_forwarded(request: Request) -> None:
    """Looks for what proxies add to a request.

    Raises:
        ForbiddenError: If there is any of it.
    """
    found = sorted(
        name for name in set(request.headers) if name in _FORWARDING_HEADERS or name.startswith(_FORWARDED)
    )
    if found:
        raise ForbiddenError(
            "without API keys this server answers to this machine only, and this request came through a "
            f"proxy ({', '.join(found)}); create a key with 'dovetail keys create NAME' and send it as "
            "'Authorization: Bearer dv_...'"
        )


def _is_this_machine(name: str, own_host: str) -> bool:
    if name in ("localhost", own_host) or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
