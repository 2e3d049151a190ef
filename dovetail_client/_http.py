"""The way to the service, by a library's client that blocks or one that awaits.

Everything above is written once, as coroutines. Where the client blocks they never wait for an event loop, so
that `run` gets through them in one go, in the thread and with the interrupts of whoever calls.
"""

from __future__ import annotations

import asyncio
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


class Opened:
    """An answer whose body is still to be read.

    Args:
        response: With its head.
        chunks: Of its body.
    """

    def __init__(
        self, response: httpx.Response, chunks: Iterator[bytes] | AsyncGenerator[bytes, None]
    ) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response, self._chunks = response, chunks

    async def read(self) -> bytes:
        """The next piece: bytes, empty at the end.

        Raises:
            ConnectionFailedError: If the connection breaks.
        """
        with _named_errors():
            if isinstance(self._chunks, Iterator):
                return next(self._chunks, b"")
            return await anext(self._chunks, b"")

    async def whole(self) -> Answer:
        """All of an answer that turned out to be an error."""
        body = b""
        while chunk := await self.read():
            body += chunk
        return Answer(self.status, self.headers, body)

    async def close(self) -> None:
        """Ends reading."""
        if isinstance(self._chunks, Iterator):
            self._response.close()
        else:
            await self._chunks.aclose()
            await self._response.aclose()


class Http:
    """Sends requests, and does what takes time besides.

    Args:
        client: That blocks, in any thread, or that awaits.
        patience: How often a request is sent again at most, and how many failures in a row a transfer bears.
        sleep: Waits, as the client does.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        client: httpx.Client | httpx.AsyncClient,
        *,
        patience: int,
        sleep: Callable[[float], Awaitable[None] | None],
        clock: Callable[[], float],
    ) -> None:
        self.patience = patience
        self.clock = clock
        self._client, self._sleep = client, sleep

    async def send(self, call: Call) -> Answer:
        """Sends a request, again and again where that helps and does no harm.

        Raises:
            ConnectionFailedError: If no answer came.
        """
        attempts = iter(range(1, self.patience + 2))

        async def attempt() -> Answer:
            number = next(attempts)
            content, headers = call.body()
            sent = self._pieces(content) if isinstance(content, bytearray) else content
            with _named_errors():
                request = self._request(call, headers=headers, content=sent)
                response = await _value(self._client.send(request))
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
        usual = self._client.timeout
        limits = httpx.Timeout(connect=usual.connect, read=read_seconds, write=usual.write, pool=usual.pool)
        request = self._request(call, headers=headers, timeout=limits)
        with _named_errors():
            response = await _value(self._client.send(request, stream=True))
        if isinstance(self._client, httpx.Client):
            return Opened(response, response.iter_raw(chunk_bytes))
        # It is a generator, though annotated as less; one that is not closed is closed by whoever comes next.
        return Opened(response, cast(AsyncGenerator[bytes, None], response.aiter_raw(chunk_bytes)))

    @asynccontextmanager
    async def opened(self, call: Call, read_seconds: float, chunk_bytes: int) -> AsyncIterator[Opened]:
        """As `open`, for a `with` block."""
        stream = await self.open(call, read_seconds, chunk_bytes)
        try:
            yield stream
        finally:
            await stream.close()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await _value(self._sleep(seconds))

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns that takes time (files, digests); off the event loop where there is one."""
        if isinstance(self._client, httpx.Client):
            return function(*args)
        return await asyncio.to_thread(function, *args)

    async def close(self) -> None:
        """Closes the connections."""
        if isinstance(self._client, httpx.Client):
            self._client.close()
        else:
            await self._client.aclose()

    def _request(self, call: Call, **values: Any) -> httpx.Request:
        request = self._client.build_request(call.method, call.path, params=call.params or None, **values)
        if "://" in call.path:  # the key is the service's, and nobody else's
            request.headers.pop("Authorization", None)
        return request

    def _pieces(self, content: bytearray) -> Iterator[bytes] | AsyncIterator[bytes]:
        return _pieces(content) if isinstance(self._client, httpx.Client) else _async_pieces(content)


async def _value(found: T | Awaitable[T]) -> T:
    """What a library's call gives, whether it blocked or is to be awaited."""
    return await found if isinstance(found, Awaitable) else found


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
