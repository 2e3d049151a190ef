"""Counts and times requests, and exposes all metrics.

Of its own because prometheus-fastapi-instrumentator (8.1) matches every request against all routes a second
time and builds a response object to describe it; the route that answered is in the scope afterwards anyway.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from psutil import pid_exists
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import ServiceContext
from service.system.collector import StoreCollector

# From a poll (about a millisecond) to an upload of gigabytes.
_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
# prometheus_client is half typed.
_SUM_OF_PROCESSES: Any = multiprocess.MultiProcessCollector
_UNKNOWN_ROUTE = "(none)"
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


# Else each counter has a second series with the time of its birth, which Prometheus does not use by default.
disable_created_metrics()  # type: ignore[no-untyped-call] # its package is half typed


class HttpMetrics:
    """Metrics of one application. Where several processes serve it, they are added up in the files of
    PROMETHEUS_MULTIPROC_DIR, and those of single processes (memory, open files) are left out."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._shared_dir = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if self._shared_dir is None:
            ProcessCollector(registry=self._registry)
        labels = ("method", "route", "status")
        self._requests = Counter(
            "dovetail_http_requests", "HTTP requests that were answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "dovetail_http_response_start_seconds",
            "Time from a request's head to its response's head (bodies take as long as clients do).",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.open = Gauge(
            "dovetail_http_requests_open",
            "HTTP requests being answered, also those that follow events or play a growing stream.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._store: StoreCollector | None = None
        # Looking for them takes prometheus_client longer than counting.
        self._of = cache(self._labelled)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        method = method if method in _METHODS else "(other)"
        counter, histogram = self._of(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _labelled(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """The series of a kind of request."""
        counter = self._requests.labels(method, route, str(status))
        return counter, self._seconds.labels(method, route)

    def expose(self, context: ServiceContext) -> bytes:
        """Everything in Prometheus' text format. Blocking: asks Redis."""
        if self._store is None:
            self._store = StoreCollector(context)
            if self._shared_dir is not None:
                self._registry = CollectorRegistry()
                _SUM_OF_PROCESSES(self._registry, path=self._shared_dir)
            self._registry.register(self._store)
        if self._shared_dir is not None:
            _forget_the_dead(Path(self._shared_dir))
        return generate_latest(self._registry)


def _forget_the_dead(folder: Path) -> None:
    """Open requests of processes that were killed are no longer open."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not pid_exists(pid):
            path.unlink(missing_ok=True)


class HttpMetricsMiddleware:
    """Plain ASGI: Starlette's function middleware would stand between streams and their clients.

    Args:
        app: What answers.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status, seconds = 500, None

        async def send_observed(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], perf_counter() - began
            await send(message)

        with self._metrics.open.track_inprogress():
            try:
                await self._app(scope, receive, send_observed)
            finally:
                # The template, not the path: ids would make a time series each.
                route = getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
                taken = perf_counter() - began if seconds is None else seconds
                self._metrics.observe(scope["method"], route, status, taken)
