"""Requests to addresses that customers name: only to public hosts, and only to the address that was checked.

A name is resolved once per request; the connection goes to one of the addresses found, so a name that
resolves differently a moment later (DNS rebinding) leads nowhere else. TLS still checks the name.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

import httpx

from service.errors import InvalidRequestError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 addresses that a translator on the way turns into IPv4 ones (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The interface part of tunnels that have an IPv4 address behind it (RFC 5214), without and with its "global"
# bit.
_ISATAP = (0x00005EFE, 0x02005EFE)
# Public by their numbers, but not in a cloud or network that has them: Azure's host of each machine, the
# block of protocol assignments with Oracle's metadata, the anycast of 6to4 relays, a block for documentation,
# and what RFC 8215 leaves to translators.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(block)
    for block in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "64:ff9b:1::/48")
)
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain")
_RESOLVE_SECONDS = 10.0
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server answers that may have more luck in a moment."""


class SourceRefusedError(InvalidRequestError):
    """Raised when an address is one that the server does not call."""

    code, title = "source_refused", "Address refused"


class HostNotFoundError(SourceRefusedError):
    """Raised when no name server knows a host now; it may be known in a moment."""


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """Checks an address as far as it goes without asking a name server.

    Args:
        url: Absolute.
        allow_private: Whether http:// and private networks are accepted.

    Returns:
        Its parts.

    Raises:
        SourceRefusedError: If it is malformed, not https, has credentials in it or names a private host.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        # What the client will connect to must be what was checked.
        is_same = httpx.URL(url).host.lower() == (host or "").lower() or not (host or "").isascii()
    except (ValueError, httpx.InvalidURL) as error:
        raise SourceRefusedError(f"{url!r} is not an address: {error}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes:
        raise SourceRefusedError(f"{url!r} is {parts.scheme or 'no'}://; accepted is {schemes[0]}://")
    if not host or not is_same:
        raise SourceRefusedError(f"{url!r} names no host")
    if parts.username is not None or parts.password is not None:
        raise SourceRefusedError("addresses with a user name or password in them are not accepted")
    if not allow_private:
        name = host.rstrip(".").lower()
        if name.rsplit(".", 1)[-1] in _LOCAL_NAMES:
            raise SourceRefusedError(f"{host!r} lies in a private network")
        literal = _literal(name)
        if literal is not None and not is_public(literal):
            raise SourceRefusedError(f"{host!r} is not a public address")
    return parts


def is_public(address: IPAddress) -> bool:
    """Whether an address is reachable for everybody: not loopback, private, link-local (cloud metadata),
    multicast, reserved or a cloud's own, nor an IPv6 form of such an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        is_tunnel = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
        if embedded is None and (address in _NAT64 or is_tunnel):
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        if address.teredo is not None or address.is_site_local:
            return False
    if any(address in block for block in _NOT_PUBLIC if block.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolve(host: str, port: int, *, allow_private: bool) -> list[IPAddress]:
    """Addresses of a host, all of them acceptable.

    Raises:
        HostNotFoundError: If nobody knows them.
        SourceRefusedError: If there are none, or one of them is not public.
    """
    literal = _literal(host)
    if literal is not None:
        found: list[IPAddress] = [literal]
    else:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise HostNotFoundError(f"the host {host!r} cannot be found") from error
        # A zone ("%eth0") marks an address of this machine's own network.
        found = [ipaddress.ip_address(str(answer[4][0])) for answer in answers]
    if not found:
        raise SourceRefusedError(f"the host {host!r} has no address")
    if not allow_private and not all(is_public(address) for address in found):
        raise SourceRefusedError(f"the host {host!r} lies in a private network")
    return found


class PinnedTransport(httpx.AsyncBaseTransport):
    """Checks each request's host and connects to the address that was checked.

    Redirects are the caller's to follow: each is a request of its own and is checked here again. For a few
    requests only: connections are pooled by address, whatever name they were opened for.

    Args:
        allow_private: Whether private networks are accepted.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        # No keep-alive: a connection must not be used again for another name at the same address.
        self._inner = httpx.AsyncHTTPTransport(
            verify=_tls_context(), limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        check_url(str(url), allow_private=self._allow_private)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await resolve(url.host, port, allow_private=self._allow_private)
        extensions = {**request.extensions, "sni_hostname": url.raw_host.decode("ascii")}
        failure: httpx.TransportError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=str(address)),
                headers=request.headers,  # with the Host of the name
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: reading the authorities' certificates takes 40 ms."""
    return httpx.create_ssl_context()


def _literal(host: str) -> IPAddress | None:
    """The address that a host is written as; None for a name. Numbers of other forms ("127.1", "0x7f.1")
    count as names, which the resolver turns into addresses that are checked."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
