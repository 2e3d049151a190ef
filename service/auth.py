"""Who asks: API keys in the Authorization header, or in a cookie for what a browser loads by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from jobs.api_keys import ApiKey, ApiKeyStore, KeyLimits, Scope
from jobs.webhook_secrets import INSTALLATION
from service.browser_guard import check_not_forwarded, check_page
from service.context import Context, ServiceContext
from service.errors import ForbiddenError, UnauthorizedError
from service.rate_limit import RateLimiter
from service.request_scope import answer_with, until_answered

LOCAL_OWNER = INSTALLATION
COOKIE = "dovetail_key"
PUBLIC: dict[str, Any] = {"security": []}
"""OpenAPI of an endpoint that asks nobody for a key."""
# A key that is revoked or expires is useless everywhere after so long.
_KEPT_SECONDS = 3.0
_MAX_KEPT = 10_000
# Limits that keys have from the settings where they say nothing. Without keys only that of bytes holds.
LimitName = Literal[
    "max_upload_bytes",
    "requests_per_minute",
    "max_requests_at_once",
    "max_streams_at_once",
    "max_uploads_at_once",
]


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        owner: Whose jobs they see and make.
        name: For people.
        scopes: What they may do.
        limits: How much.
    """

    owner: str
    name: str
    scopes: tuple[Scope, ...]
    limits: KeyLimits = field(default_factory=KeyLimits)

    def allows(self, scope: Scope) -> bool:
        """Whether they may do what the scope names."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL = Caller(LOCAL_OWNER, "this machine", (Scope.ADMIN,))


class KnownKeys:
    """Keys that were looked up lately: a client that polls does not make Redis look twice for each poll.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ApiKeyStore) -> None:
        self._store = store
        self._found: dict[str, tuple[float, ApiKey]] = {}

    async def find(self, secret: str) -> ApiKey | None:
        """The key of a secret as it was at most three seconds ago; None if there is none."""
        now = time.monotonic()
        until, key = self._found.get(secret, (0.0, None))
        if key is not None and now < until:
            return key
        key = await run_in_threadpool(self._store.find, secret)
        if key is None:
            # Not remembered: guesses must not push out keys that are in use.
            self._found.pop(secret, None)
            return None
        if len(self._found) >= _MAX_KEPT:
            self._found.clear()
        self._found[secret] = (now + _KEPT_SECONDS, key)
        return key


def effective_limit(context: ServiceContext, caller: Caller, name: LimitName) -> int:
    """What holds for a caller: the key's own limit, else the server's; 0 is none."""
    own: int = getattr(caller.limits, name)
    if own or (caller.owner == LOCAL_OWNER and name != "max_upload_bytes"):
        return own
    found: int = getattr(context.settings, name)
    return found


def effective_limits(context: ServiceContext, caller: Caller) -> KeyLimits:
    """All of these, and those that only keys have."""
    found = {name: effective_limit(context, caller, name) for name in get_args(LimitName)}
    return caller.limits.model_copy(update=found)


async def identify(request: Request, context: Context) -> Caller:
    """The caller of a request, which counts as under way until it is answered.

    Raises:
        UnauthorizedError: If a key is needed and none, or no valid one, was sent.
        ForbiddenError: If none is needed, and another page's script asks, or somebody through a proxy.
        RateLimitedError: If the key asks too often.
        QuotaError: If it asks for too much at the same time.
    """
    caller = await _identify(request, context)
    limit = effective_limit(context, caller, "max_requests_at_once")
    until_answered(request).enter_context(context.in_flight.hold("requests", caller.owner, limit))
    return caller


async def _identify(request: Request, context: ServiceContext) -> Caller:
    if not await context.key_use.is_needed():
        settings = context.settings
        check_page(request, allowed_origins=settings.cors_origins, own_host=settings.host)
        check_not_forwarded(request)
        return LOCAL
    secret = _secret_of(request)
    if secret is None:
        raise UnauthorizedError("send an API key as 'Authorization: Bearer dv_...'")
    return await _look_up(request, context, secret)


def _secret_of(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    # Only for reading: a cookie comes along with requests that another page makes the browser send.
    return request.cookies.get(COOKIE) if request.method in ("GET", "HEAD") else None


async def _look_up(request: Request, context: ServiceContext, secret: str) -> Caller:
    known: KnownKeys = request.app.state.known_keys
    key = await known.find(secret)
    if key is None:
        raise UnauthorizedError("this API key is unknown, revoked or expired")
    limiter: RateLimiter = request.app.state.rate_limiter
    limit = key.limits.requests_per_minute or context.settings.requests_per_minute
    answer_with(request, (await limiter.check(key.id, limit)).headers)
    return Caller(key.id, key.name, key.scopes, key.limits)


Identified = Annotated[Caller, Depends(identify)]


class Requires:
    """A dependency: the caller, if they have a scope.

    Attributes:
        scope: That they need.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, caller: Identified) -> Caller:
        return _require(caller, self.scope)


async def reader_of(request: Request, context: ServiceContext) -> Caller:
    """As the dependency `Reader`, for a route that is called so often that it counts."""
    return _require(await identify(request, context), Scope.READ)


def _require(caller: Caller, scope: Scope) -> Caller:
    if not caller.allows(scope):
        raise ForbiddenError(f"this API key lacks the scope {scope}")
    return caller


Reader = Annotated[Caller, Depends(Requires(Scope.READ))]
Writer = Annotated[Caller, Depends(Requires(Scope.WRITE))]
MetricsReader = Annotated[Caller, Depends(Requires(Scope.METRICS))]
Admin = Annotated[Caller, Depends(Requires(Scope.ADMIN))]


async def _count_stream(request: Request, context: Context, caller: Reader) -> None:
    limit = effective_limit(context, caller, "max_streams_at_once")
    until_answered(request).enter_context(context.in_flight.hold("streams", caller.owner, limit))


OPEN_STREAM = Depends(_count_stream)
"""For endpoints whose answers stay open as long as the client likes."""
