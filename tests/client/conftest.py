"""A service, a faulty way to it, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail_client import AsyncDovetail, Dovetail
from tests.client.fake_service import KEY, FakeService, served
from tests.client.faults import FaultyProxy, faulty_proxy


class Time:
    """Time that passes only when somebody sleeps.

    Attributes:
        slept: Every pause, in seconds.
    """

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def async_sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class BlockingFace:
    """An `AsyncDovetail` with an event loop of its own, so that a test is written once for both clients."""

    def __init__(self, client: Any, runner: asyncio.Runner | None = None) -> None:
        self._client = client
        self._runner = runner or asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return BlockingFace(method, self._runner)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._runner.run(result) if inspect.iscoroutine(result) else self._iterate(result)

        return call

    def _iterate(self, values: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(values, self)

        try:
            while (value := self._runner.run(following())) is not self:
                yield value
        finally:
            self._runner.run(values.aclose())

    def shut(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    """What it answers is what the real one would, or the test fails."""
    folder = tmp_path / "service"
    folder.mkdir()
    fake = FakeService(folder)
    yield fake
    assert fake.app.violations == []


@pytest.fixture
def network(service: FakeService) -> Iterator[FaultyProxy]:
    """The way to the service; without faults until a test adds some."""
    with served(service.app) as port, faulty_proxy(port) as proxy:
        yield proxy


@pytest.fixture
def url(network: FaultyProxy) -> str:
    return f"http://127.0.0.1:{network.port}"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, url: str, time: Time) -> Iterator[Any]:
    """Each of the two clients."""
    if request.param == "sync":
        with Dovetail(url, api_key=KEY, sleep=time.sleep, clock=time.clock) as blocking:
            yield blocking
    else:
        face = BlockingFace(AsyncDovetail(url, api_key=KEY, sleep=time.async_sleep, clock=time.clock))
        yield face
        face.shut()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Three megabytes that look like nothing, which is all the same to a client."""
    path = tmp_path / "clip.mkv"
    path.write_bytes(bytes(range(251)) * 12_000)
    return path
