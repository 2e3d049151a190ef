"""The way to the service: one that blocks, one that awaits, both with coroutines for methods.

Everything above is written once, as coroutines. Those of the blocking way never wait for an event loop, so
that `run` gets through them in one go, in the thread and with the interrupts of whoever calls.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import httpx
from tenacity import AsyncRetrying

from dovetail_client._calls import Answer, Call
from dovetail_client._retries import retry_policy
from dovetail_client.errors import ConnectionFailedError, UnexpectedAnswerError

T = TypeVar("T")

PIECE_BYTES = 256 * 2**10


def run(awaitable: Awaitable[T]) -> T:
    """What a coroutine returns that waits for nothing but blocking calls."""
    try:
        next(awaitable.__await__())
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a coroutine of the blocking client waits for an event loop")


def iterate(values: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """What an asynchronous generator gives that waits for nothing but blocking calls."""
    try:
        while True:
            try:
                value = run(anext(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        run(values.aclose())


class Opened(ABC):
    """An answer whose body is still to be read."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers

    async def read(self) -> bytes:
        """The next piece: bytes, empty at the end.

        Raises:
            ConnectionFailedError: If the connection breaks.
        """
        with _named_errors():
            return await self._next()

    async def whole(self) -> Answer:
        """All of an answer that turned out to be an error."""
        body = b""
        while chunk := await self.read():
            body += chunk
        return Answer(self.status, self.headers, body)

    @abstractmethod
    async def _next(self) -> bytes: ...

    @abstractmethod
    async def close(self) -> None:
        """Ends reading."""


class Http(ABC):
    """Sends requests, and does what takes time besides.

    Args:
        patience: How often a request is sent again at most, and how many failures in a row a transfer bears.
        clock: Seconds that only grow.
    """

    def __init__(self, *, patience: int, clock: Callable[[], float]) -> None:
        self.patience = patience
        self.clock = clock

    async def send(self, call: Call) -> Answer:
        """Sends a request, again and again where that helps and does no harm.

        Raises:
            ConnectionFailedError: If no answer came.
        """
        attempts = iter(range(1, self.patience + 2))

        async def attempt() -> Answer:
            number = next(attempts)
            content, headers = call.body()
            with _named_errors():
                response = await self._request(call, content, headers)
            return Answer(response.status_code, response.headers, response.content, number)

        return await AsyncRetrying(sleep=self.sleep, **retry_policy(call, max_retries=self.patience))(attempt)

    async def open(self, call: Call, read_seconds: float, chunk_bytes: int | None = None) -> Opened:
        """Sends a request and reads only the head of its answer.

        Args:
            call: The request.
            read_seconds: Of silence, after which the connection counts as broken.
            chunk_bytes: Of the pieces; by default as they come.
        """
        _, headers = call.body()
        with _named_errors():
            return await self._open(call, headers, read_seconds, chunk_bytes)

    @asynccontextmanager
    async def opened(self, call: Call, read_seconds: float, chunk_bytes: int) -> AsyncIterator[Opened]:
        """As `open`, for a `with` block."""
        stream = await self.open(call, read_seconds, chunk_bytes)
        try:
            yield stream
        finally:
            await stream.close()

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Waits."""

    @abstractmethod
    async def work(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns that takes time (files, digests); off the event loop where there is one."""

    @abstractmethod
    async def close(self) -> None:
        """Closes the connections."""

    @abstractmethod
    async def _request(
        self, call: Call, content: bytes | bytearray | None, headers: dict[str, str]
    ) -> httpx.Response: ...

    @abstractmethod
    async def _open(
        self, call: Call, headers: dict[str, str], read_seconds: float, chunk_bytes: int | None
    ) -> Opened: ...


class BlockingHttp(Http):
    """The way for programs without an event loop. Of any thread."""

    def __init__(
        self,
        http: httpx.Client,
        *,
        patience: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        super().__init__(patience=patience, clock=clock)
        self._http, self._sleep = http, sleep

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    async def close(self) -> None:
        self._http.close()

    async def _request(
        self, call: Call, content: bytes | bytearray | None, headers: dict[str, str]
    ) -> httpx.Response:
        sent = _pieces(content) if isinstance(content, bytearray) else content
        return self._http.request(call.method, call.path, params=call.params, headers=headers, content=sent)

    async def _open(
        self, call: Call, headers: dict[str, str], read_seconds: float, chunk_bytes: int | None
    ) -> Opened:
        request = _stream_request(self._http, call, headers, read_seconds)
        return _BlockingStream(self._http.send(request, stream=True), chunk_bytes)


class AsyncHttp(Http):
    """The way for programs with an event loop."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        patience: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        super().__init__(patience=patience, clock=clock)
        self._http, self._sleep = http, sleep

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    async def close(self) -> None:
        await self._http.aclose()

    async def _request(
        self, call: Call, content: bytes | bytearray | None, headers: dict[str, str]
    ) -> httpx.Response:
        sent = _async_pieces(content) if isinstance(content, bytearray) else content
        return await self._http.request(
            call.method, call.path, params=call.params, headers=headers, content=sent
        )

    async def _open(
        self, call: Call, headers: dict[str, str], read_seconds: float, chunk_bytes: int | None
    ) -> Opened:
        request = _stream_request(self._http, call, headers, read_seconds)
        return _AsyncStream(await self._http.send(request, stream=True), chunk_bytes)


class _BlockingStream(Opened):
    def __init__(self, response: httpx.Response, chunk_bytes: int | None) -> None:
        super().__init__(response)
        self._response, self._chunks = response, response.iter_raw(chunk_bytes)

    async def _next(self) -> bytes:
        return next(self._chunks, b"")

    async def close(self) -> None:
        self._response.close()


class _AsyncStream(Opened):
    def __init__(self, response: httpx.Response, chunk_bytes: int | None) -> None:
        super().__init__(response)
        # It is a generator, though annotated as less; one that is not closed is closed by whoever comes next.
        self._chunks = cast(AsyncGenerator[bytes, None], response.aiter_raw(chunk_bytes))
        self._response = response

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")

    async def close(self) -> None:
        await self._chunks.aclose()
        await self._response.aclose()


def _stream_request(
    http: httpx.Client | httpx.AsyncClient, call: Call, headers: dict[str, str], read_seconds: float
) -> httpx.Request:
    usual = http.timeout
    timeout = httpx.Timeout(connect=usual.connect, read=read_seconds, write=usual.write, pool=usual.pool)
    return http.build_request(call.method, call.path, params=call.params, headers=headers, timeout=timeout)


def _pieces(content: bytearray) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield bytes(content[start : start + PIECE_BYTES])


async def _async_pieces(content: bytearray) -> AsyncIterator[bytes]:
    for piece in _pieces(content):
        yield piece


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turns the HTTP library's errors into ours."""
    try:
        yield
    except httpx.TransportError as error:
        url = error.request.url.copy_with(query=None)
        is_unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        what = "cannot reach" if is_unsent else "lost the connection to"
        reason = str(error) or type(error).__name__
        raise ConnectionFailedError(f"{what} {url}: {reason}", is_unsent=is_unsent) from error
    except httpx.HTTPError as error:
        raise UnexpectedAnswerError(f"the answer cannot be read: {error}") from error
