"""The API as an ASGI application."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool

from jobs.errors import StoreUnavailableError
from jobs.settings import ServiceSettings
from media.sandbox import shared_sandbox
from service import problems
from service.auth import KnownKeys
from service.background import run_background
from service.batches.endpoints import router as batches_router
from service.context import ServiceContext, make_context
from service.deliveries.endpoints import router as deliveries_router
from service.description import describe
from service.estimates.endpoints import router as estimates_router
from service.jobs.endpoints import router as jobs_router
from service.keys.endpoints import router as keys_router
from service.models.endpoints import router as models_router
from service.rate_limit import RateLimiter
from service.request_scope import RequestScopeMiddleware
from service.results.endpoints import router as results_router
from service.system.endpoints import router as system_router
from service.system.http_metrics import HttpMetrics, HttpMetricsMiddleware
from service.system.service import ReadinessCheck
from service.uploads.direct_endpoints import router as direct_uploads_router
from service.uploads.endpoints import router as uploads_router
from service.web import router as web_router
from service.webhooks.endpoints import router as webhooks_router

_ROUTERS = (
    jobs_router,
    uploads_router,
    direct_uploads_router,
    batches_router,
    results_router,
    deliveries_router,
    estimates_router,
    models_router,
    webhooks_router,
    keys_router,
    web_router,
    system_router,
)
_CANCEL_SECONDS = 1.0
_DESCRIPTION = """
Send a soft, noisy, compressed video; get it back larger and clean, with its sound, subtitles and every time
stamp.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problems with a stable `code`. Requests need
`Authorization: Bearer dv_...` unless the server listens on this machine only.
"""


def create_app(settings: ServiceSettings, *, uses_keys: bool) -> FastAPI:
    """Makes the application.

    Args:
        settings: Of the process.
        uses_keys: Whether requests need an API key even while there is none; once there are keys they do.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            context = make_context(settings, uses_keys=uses_keys)
            stack.push_async_callback(context.close)
            app.state.context = context
            app.state.media_origin = await run_in_threadpool(_media_origin, context)
            app.state.rate_limiter = RateLimiter(context.async_client)
            app.state.known_keys = KnownKeys(context.keys)
            shared_sandbox("probe").start_ahead()
            with suppress(StoreUnavailableError):  # the first request asks again
                await context.key_use.is_needed()
            app.state.readiness = ReadinessCheck(context)
            stack.push_async_callback(app.state.readiness.close)
            listening = asyncio.create_task(context.events.run())
            stack.push_async_callback(_cancel, listening)
            await stack.enter_async_context(run_background(context))
            yield

    app = FastAPI(
        title="Dovetail",
        summary="One-step diffusion video super-resolution.",
        description=_DESCRIPTION,
        version=version("dovetail-vsr"),
        lifespan=lifespan,
        # Their pages load scripts of other sites; `service.web` has one that does not.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    problems.install(app)
    app.add_middleware(RequestScopeMiddleware)
    app.state.http_metrics = HttpMetrics()
    app.add_middleware(HttpMetricsMiddleware, metrics=app.state.http_metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                "Location",
                "ETag",
                "Retry-After",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Upload-Offset",
                "Upload-Length",
                "Upload-Expires",
                "Upload-Metadata",
                "Tus-Resumable",
                "Tus-Version",
                "Tus-Extension",
                "Tus-Max-Size",
                "Tus-Checksum-Algorithm",
                "X-Request-Id",
            ],
        )
    for router in _ROUTERS:
        app.include_router(router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app, _ROUTERS, uses_keys=uses_keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents
    return app


def create_app_of_process(settings: ServiceSettings, *, uses_keys: bool) -> FastAPI:
    """Makes the application of a process that serves it and does nothing else; takes what `create_app` does.

    Everything imported until now stays for good. Looking through it for garbage took 0.12 s twice a second
    under load (benchmarks/polls.py), in which nobody was answered.
    """
    app = create_app(settings, uses_keys=uses_keys)
    gc.collect()
    gc.freeze()
    return app


def _media_origin(context: ServiceContext) -> str | None:
    """Where the web page's player is sent to; None if nowhere."""
    bucket = context.download_bucket
    return None if bucket is None else bucket.origin


async def _cancel(task: asyncio.Task[None]) -> None:
    # More than once: asyncio.wait_for (Python 3.11, in redis-py) forgets a cancellation that comes with its
    # result, and the server would never stop.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)
