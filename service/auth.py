"""Who asks: API keys in the Authorization header, or in a cookie for what a browser loads by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool

from jobs.api_keys import KeyLimits, Scope
from service.browser_guard import check_page
from service.context import Context, ServiceContext
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError

LOCAL_OWNER = "local"
COOKIE = "dovetail_key"


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


class RateLimiter:
    """Counts requests per caller in a sliding minute, in Redis, so that all API processes count together.

    Args:
        redis_url: Of the store.
    """

    def __init__(self, redis_url: str) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(RedisStorage(redis_url))

    def check(self, owner: str, requests_per_minute: int) -> None:
        """Counts one request.

        Raises:
            RateLimitedError: If it is one too many.
        """
        limit = RateLimitItemPerMinute(requests_per_minute)
        if not self._limiter.hit(limit, owner):
            wait = self._limiter.get_window_stats(limit, owner).reset_time - time.time()
            raise RateLimitedError(
                f"more than {requests_per_minute} requests in a minute; wait, and poll less often",
                retry_after_seconds=int(wait) + 1,
            )


async def identify(request: Request, context: Context) -> Caller:
    """The caller of a request.

    Raises:
        UnauthorizedError: If a key is needed and none, or no valid one, was sent.
        ForbiddenError: If none is needed, and another page's script asks.
        RateLimitedError: If the key asks too often.
    """
    if not context.uses_keys:
        settings = context.settings
        check_page(request, allowed_origins=settings.cors_origins, own_host=settings.host)
        return LOCAL
    secret = _secret_of(request)
    if secret is None:
        raise UnauthorizedError("send an API key as 'Authorization: Bearer dv_...'")
    return await run_in_threadpool(_look_up, request, context, secret)


def _secret_of(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    # Only for reading: a cookie comes along with requests that another page makes the browser send.
    return request.cookies.get(COOKIE) if request.method in ("GET", "HEAD") else None


def _look_up(request: Request, context: ServiceContext, secret: str) -> Caller:
    key = context.keys.find(secret)
    if key is None:
        raise UnauthorizedError("this API key is unknown, revoked or expired")
    limiter: RateLimiter = request.app.state.rate_limiter
    limiter.check(key.id, key.limits.requests_per_minute or context.settings.requests_per_minute)
    return Caller(key.id, key.name, key.scopes, key.limits)


Identified = Annotated[Caller, Depends(identify)]


class _Requires:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, caller: Identified) -> Caller:
        if not caller.allows(self._scope):
            raise ForbiddenError(f"this API key lacks the scope {self._scope}")
        return caller


Reader = Annotated[Caller, Depends(_Requires(Scope.READ))]
Writer = Annotated[Caller, Depends(_Requires(Scope.WRITE))]
MetricsReader = Annotated[Caller, Depends(_Requires(Scope.METRICS))]
