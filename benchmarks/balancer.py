"""A balancer without sticky sessions: every request goes to the next server, whoever asks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import cycle

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from jobs.embedded_redis import free_port

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Of one connection, not of what goes over it.
_OF_CONNECTION = {b"connection", b"keep-alive", b"transfer-encoding"}


class Balancer:
    """Passes requests on while a `with` block runs. A server that takes no connection is passed over; one
    that breaks off is a 502, or an answer that breaks off.

    Args:
        urls: Of the servers.

    Attributes:
        url: Its own.
        num_passed: Requests that were answered, by server and method.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls, self._turns = urls, cycle(urls)
        self.num_passed: Counter[tuple[str, str]] = Counter()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        app = Starlette(routes=[Route("/{path:path}", self._pass_on, methods=_METHODS)])
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        # No limit of connections: an open stream must not keep others waiting.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)

    async def _pass_on(self, request: Request) -> Response:
        has_body = {"content-length", "transfer-encoding"} & set(request.headers)
        headers = [header for header in request.headers.raw if header[0] not in _OF_CONNECTION]
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        for _ in self._urls:
            url = next(self._turns)
            content = request.stream() if has_body else None
            try:
                answer = await self._client.send(
                    self._client.build_request(
                        request.method, url + target, headers=headers, content=content
                    ),
                    stream=True,
                )
            except httpx.ConnectError:
                continue  # nothing of the body has been read
            except httpx.TransportError as error:
                return PlainTextResponse(f"{url} broke off: {error}", status_code=502)
            self.num_passed[url, request.method] += 1
            return _passed_back(answer)
        return PlainTextResponse("no server takes connections", status_code=503)

    def __enter__(self) -> Balancer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


def _passed_back(answer: httpx.Response) -> Response:
    passed = StreamingResponse(_pieces(answer), answer.status_code, background=BackgroundTask(answer.aclose))
    passed.raw_headers = [
        (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _OF_CONNECTION
    ]
    return passed


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
