"""What belongs to one request: its id, for its log lines, its response and its problem document, headers of
whatever it is answered with, and what is let go of when it has been."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from random import getrandbits

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"


class RequestScopeMiddleware:
    """Plain ASGI: Starlette's function middleware would stand between streams and their clients.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # To tell requests apart, not to be secret: urandom costs a system call.
        request_id = f"{getrandbits(128):032x}"
        headers = {HEADER: request_id}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id), ExitStack() as held:
            scope.setdefault("state", {}).update(request_id=request_id, headers=headers, held=held)
            await self._app(scope, receive, send_with_headers)


def answer_with(request: Request, headers: Mapping[str, str]) -> None:
    """Adds headers to the answer, also if it is an error."""
    request.state.headers.update(headers)


def until_answered(request: Request) -> ExitStack:
    """What is entered here is left when the response has been sent whole, or its client has gone. A
    dependency that yields does the same, for a quarter of the time that a poll takes."""
    held: ExitStack = request.state.held
    return held
