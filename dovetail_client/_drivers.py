"""What performs the steps of flows: one driver that blocks, one that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, TypeVar, cast

import httpx
from tenacity import AsyncRetrying, Retrying

from dovetail_client._retries import retry_policy
from dovetail_client._steps import (
    Answer,
    Call,
    Close,
    Emit,
    Finished,
    Flow,
    Open,
    Opened,
    Outcome,
    Read,
    Sleep,
    Step,
    advance,
)
from dovetail_client.errors import ConnectionFailedError, UnexpectedAnswerError

T = TypeVar("T")

PIECE_BYTES = 256 * 2**10


class Driver:
    """Performs steps with a blocking HTTP client.

    Args:
        max_retries: How often a request is sent again at most.
        sleep: Waits; tests give one that does not.
    """

    def __init__(
        self, http: httpx.Client, *, max_retries: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._http = http
        self._max_retries = max_retries
        self._sleep = sleep

    def run(self, flow: Flow[T]) -> T:
        """Performs a flow to its end."""
        with self._streams(flow) as streams:
            outcome = Outcome()
            while not isinstance(step := advance(flow, outcome), Finished):
                outcome = self._attempt(step, streams)
            return step.value

    def iterate(self, flow: Flow[None]) -> Generator[Any, None, None]:
        """Performs a flow and hands out what it emits."""
        with self._streams(flow) as streams:
            outcome = Outcome()
            while not isinstance(step := advance(flow, outcome), Finished):
                if isinstance(step, Emit):
                    yield step.value
                    outcome = Outcome()
                else:
                    outcome = self._attempt(step, streams)

    def _attempt(self, step: Step, streams: _Streams) -> Outcome:
        try:
            return Outcome(self._perform(step, streams))
        except Exception as error:
            return Outcome(error=error)

    def _perform(self, step: Step, streams: _Streams) -> Any:
        match step:
            case Call():
                policy = retry_policy(step, max_retries=self._max_retries)
                return Retrying(sleep=self._sleep, **policy)(self._counted(step))
            case Open():
                return self._open(step, streams)
            case Read(stream):
                with _named_errors():
                    return next(streams[stream][1], b"")
            case Close(stream):
                return streams.pop(stream)[0].close()
            case Sleep(seconds):
                return self._sleep(seconds)
            case Emit():
                raise TypeError("this flow emits values: iterate over it")
            case _:
                return step.function()

    def _counted(self, call: Call) -> Callable[[], Answer]:
        attempts = iter(range(1, self._max_retries + 2))

        def attempt() -> Answer:
            number = next(attempts)
            content, headers = call.body()
            with _named_errors():
                sent = _pieces(content) if isinstance(content, bytearray) else content
                response = self._http.request(
                    call.method, call.path, params=call.params, headers=headers, content=sent
                )
            return _to_answer(response, number)

        return attempt

    def _open(self, step: Open, streams: _Streams) -> Opened:
        with _named_errors():
            response = self._http.send(_stream_request(self._http, step), stream=True)
        opened = Opened(response.status_code, response.headers)
        streams[opened] = (response, response.iter_raw(step.chunk_size))
        return opened

    @contextmanager
    def _streams(self, flow: Flow[T]) -> Iterator[_Streams]:
        streams: _Streams = {}
        with closing(flow):
            try:
                yield streams
            finally:
                for response, _ in streams.values():
                    response.close()


class AsyncDriver:
    """Performs steps with an HTTP client that awaits.

    Args:
        max_retries: How often a request is sent again at most.
        sleep: Waits; tests give one that does not.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        max_retries: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._max_retries = max_retries
        self._sleep = sleep

    async def run(self, flow: Flow[T]) -> T:
        """Performs a flow to its end."""
        async with self._streams(flow) as streams:
            outcome = Outcome()
            while not isinstance(step := advance(flow, outcome), Finished):
                outcome = await self._attempt(step, streams)
            return step.value

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        """Performs a flow and hands out what it emits."""
        async with self._streams(flow) as streams:
            outcome = Outcome()
            while not isinstance(step := advance(flow, outcome), Finished):
                if isinstance(step, Emit):
                    yield step.value
                    outcome = Outcome()
                else:
                    outcome = await self._attempt(step, streams)

    async def _attempt(self, step: Step, streams: _AsyncStreams) -> Outcome:
        try:
            return Outcome(await self._perform(step, streams))
        except Exception as error:
            return Outcome(error=error)

    async def _perform(self, step: Step, streams: _AsyncStreams) -> Any:
        match step:
            case Call():
                policy = retry_policy(step, max_retries=self._max_retries)
                return await AsyncRetrying(sleep=self._sleep, **policy)(self._counted(step))
            case Open():
                return await self._open(step, streams)
            case Read(stream):
                with _named_errors():
                    return await anext(streams[stream][1], b"")
            case Close(stream):
                return await _aclose(*streams.pop(stream))
            case Sleep(seconds):
                return await self._sleep(seconds)
            case Emit():
                raise TypeError("this flow emits values: iterate over it")
            case _:
                return await asyncio.to_thread(step.function)

    def _counted(self, call: Call) -> Callable[[], Awaitable[Answer]]:
        attempts = iter(range(1, self._max_retries + 2))

        async def attempt() -> Answer:
            number = next(attempts)
            content, headers = call.body()
            with _named_errors():
                sent = _async_pieces(content) if isinstance(content, bytearray) else content
                response = await self._http.request(
                    call.method, call.path, params=call.params, headers=headers, content=sent
                )
            return _to_answer(response, number)

        return attempt

    async def _open(self, step: Open, streams: _AsyncStreams) -> Opened:
        with _named_errors():
            response = await self._http.send(_stream_request(self._http, step), stream=True)
        opened = Opened(response.status_code, response.headers)
        # It is a generator, though annotated as less; one that is not closed is closed by whoever comes next.
        chunks = cast(AsyncGenerator[bytes, None], response.aiter_raw(step.chunk_size))
        streams[opened] = (response, chunks)
        return opened

    @asynccontextmanager
    async def _streams(self, flow: Flow[T]) -> AsyncIterator[_AsyncStreams]:
        streams: _AsyncStreams = {}
        with closing(flow):
            try:
                yield streams
            finally:
                for stream in streams.values():
                    await _aclose(*stream)


_Streams = dict[Opened, tuple[httpx.Response, Iterator[bytes]]]
_AsyncStreams = dict[Opened, tuple[httpx.Response, AsyncGenerator[bytes, None]]]


async def _aclose(response: httpx.Response, chunks: AsyncGenerator[bytes, None]) -> None:
    await chunks.aclose()
    await response.aclose()


def _stream_request(http: httpx.Client | httpx.AsyncClient, step: Open) -> httpx.Request:
    _, headers = step.call.body()
    timeout = _with_read_limit(http.timeout, step.read_timeout_seconds)
    return http.build_request(
        step.call.method,
        step.call.path,
        params=step.call.params,
        headers=headers,
        timeout=timeout,
    )


def _with_read_limit(timeout: httpx.Timeout, seconds: float) -> httpx.Timeout:
    """The same time limits with another one for silence while reading."""
    return httpx.Timeout(connect=timeout.connect, read=seconds, write=timeout.write, pool=timeout.pool)


def _pieces(content: bytearray) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield bytes(content[start : start + PIECE_BYTES])


async def _async_pieces(content: bytearray) -> AsyncIterator[bytes]:
    for piece in _pieces(content):
        yield piece


def _to_answer(response: httpx.Response, num_attempts: int) -> Answer:
    return Answer(response.status_code, response.headers, response.content, num_attempts)


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
