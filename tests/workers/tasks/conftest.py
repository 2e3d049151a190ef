from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from media.sandbox import Sandbox
from tests.redis_server import RedisServer, own_redis, redis_server, session_redis
from tests.s3_server import s3_server, s3_url
from tests.workers.made import make_video
from tests.workers.tasks.farm import Farm
from workers.process import make_sandbox

__all__ = ["own_redis", "redis_server", "s3_server", "s3_url", "session_redis"]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """For all workers in this process; its server takes seconds to start."""
    with make_sandbox() as running:
        yield running


@pytest.fixture
def make_farm(redis_server: RedisServer, tmp_path: Path, sandbox: Sandbox) -> Iterator[Callable[..., Farm]]:
    """Makes the test's installation; arguments are settings of a worker."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Farm:
            made = Farm.make(redis_server, tmp_path / "data", sandbox, **settings)
            return stack.enter_context(closing(made))

        yield make


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """An installation with the usual settings."""
    return make_farm()


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One segment."""
    return make_video(tmp_path_factory.mktemp("clips") / "short.mp4", 20)


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve segments."""
    return make_video(tmp_path_factory.mktemp("clips") / "long.mp4", 12 * 32)
