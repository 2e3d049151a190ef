"""The way to the service, by a library's client that blocks or one that awaits.

Everything above is written once, as coroutines. Where the client blocks they never wait for an event loop, so
that `run` gets through them in one go, in the thread and with the interrupts of whoever calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import httpx

from dovetail_client._answers import is_refusal, to_error
from dovetail_client._retries import Patience, has_done_nothing, is_temporary
from dovetail_client.errors import ConnectionFailedError, DovetailError, UnexpectedAnswerError

T = TypeVar("T")

PIECE_BYTES = 256 * 2**10
REPEATABLE_METHODS = frozenset({"GET", "HEAD", "DELETE"})


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


class Http:
    """Sends requests, and does what takes time besides.

    Args:
        client: That blocks, in any thread, or that awaits.
        max_retries: How often a request is sent again at most, and how many failures in a row something
            longer bears.
        sleep: Waits, as the client does.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        client: httpx.Client | httpx.AsyncClient,
        *,
        max_retries: int,
        sleep: Callable[[float], Awaitable[None] | None],
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self._client, self._max_retries, self._sleep = client, max_retries, sleep

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
        patience: Patience | None = None,
        **body: Any,
    ) -> httpx.Response:
        """Sends a request, again and again where that helps and does no harm.

        Args:
            path: Below the base URL, or an address of another server's, which the key does not go to.
            is_repeatable: Whether it may be sent again when nobody knows what became of it; None decides by
                the method and Idempotency-Key.
            patience: Counts the failures.
            **body: `params`, `json`, `content`, `data` and `files`, as httpx takes them. A `bytearray` as
                content is sent in pieces, and its maker may clear it afterwards: libraries keep requests in
                reference cycles, and with them the memory of their bodies.

        Raises:
            APIError: If the service refuses.
            ConnectionFailedError: If no answer came.
        """
        if is_repeatable is None:
            is_repeatable = method in REPEATABLE_METHODS or "Idempotency-Key" in (headers or {})
        patience = patience or self.patience()
        while True:
            try:
                with _named_errors():
                    answer = await _value(self._client.send(self._request(method, path, headers, **body)))
                if is_refusal(answer):
                    raise to_error(answer)
                return answer
            except DovetailError as error:
                if not (is_temporary(error) and (is_repeatable or has_done_nothing(error))):
                    raise
                await patience.bear(error)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        read_seconds: float,
        headers: Mapping[str, str] | None = None,
        chunk_bytes: int | None = None,
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[bytes]]]:
        """Sends a request once, and reads only the head of its answer.

        Args:
            path: As in `send`.
            read_seconds: Of silence, after which the connection counts as broken.
            chunk_bytes: Of the pieces of the body; by default as they come.

        Yields:
            The answer, and the pieces of its body, which may end with ConnectionFailedError.

        Raises:
            APIError: If the service refuses.
            ConnectionFailedError: If no answer came.
        """
        usual = self._client.timeout
        limits = httpx.Timeout(connect=usual.connect, read=read_seconds, write=usual.write, pool=usual.pool)
        request = self._request(method, path, headers, timeout=limits)
        with _named_errors():
            answer = await _value(self._client.send(request, stream=True))
        try:
            if is_refusal(answer):
                with _named_errors():
                    await _value(answer.read() if self._blocks else answer.aread())
                raise to_error(answer)
            async with aclosing(self._chunks(answer, chunk_bytes)) as chunks:
                yield answer, chunks
        finally:
            await self._close(answer)

    def patience(self) -> Patience:
        """For something that takes several requests."""
        return Patience(self._max_retries, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await _value(self._sleep(seconds))

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns that takes time (files, digests); off the event loop where there is one."""
        return function(*args) if self._blocks else await asyncio.to_thread(function, *args)

    async def close(self) -> None:
        """Closes the connections."""
        await self._close(self._client)

    @property
    def _blocks(self) -> bool:
        return isinstance(self._client, httpx.Client)

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None, content: Any = None, **values: Any
    ) -> httpx.Request:
        sent = dict(headers or {})
        if isinstance(content, bytearray):
            sent["Content-Length"] = str(len(content))
            content = _pieces(content) if self._blocks else _async_pieces(content)
        request = self._client.build_request(method, path, headers=sent, content=content, **values)
        if "://" in path:  # the key is the service's, and nobody else's
            request.headers.pop("Authorization", None)
        return request

    async def _chunks(self, answer: httpx.Response, chunk_bytes: int | None) -> AsyncGenerator[bytes, None]:
        with _named_errors():
            if self._blocks:
                for chunk in answer.iter_raw(chunk_bytes):
                    yield chunk
                return
            # A generator, though annotated as less; one that is not closed is closed by whoever comes next.
            chunks = cast(AsyncGenerator[bytes, None], answer.aiter_raw(chunk_bytes))
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def _close(self, what: httpx.Client | httpx.AsyncClient | httpx.Response) -> None:
        if isinstance(what, httpx.Client) or (isinstance(what, httpx.Response) and self._blocks):
            what.close()
        else:
            await what.aclose()


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
