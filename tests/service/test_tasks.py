"""Messages that the API processes work off: again after a failure, later, and given back at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest

from jobs.settings import ServiceSettings
from service.context import ServiceContext, make_context
from service.tasks import LaterError, TaskKind, enqueue_task, running_tasks

QUEUE, NAME = "test", "do"


@pytest.fixture
def context(settings: ServiceSettings) -> Iterator[ServiceContext]:
    patient = settings.model_copy(update={"heartbeat_timeout": timedelta(seconds=60)})
    made = make_context(patient, uses_keys=False)
    yield made
    asyncio.run(made.close())


def put(context: ServiceContext, *names: str) -> None:
    for name in names:
        enqueue_task(context, QUEUE, NAME, name, owner="me")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def kind(run: Callable[[ServiceContext, str], Awaitable[None]], *, num_at_once: int = 2) -> TaskKind:
    return TaskKind(QUEUE, NAME, run, num_at_once)


def left(context: ServiceContext) -> set[str]:
    return set(context.queue.messages.ids(QUEUE))


def test_so_many_are_done_at_once_and_no_more(context: ServiceContext) -> None:
    running: set[str] = set()
    most: list[int] = []

    async def run(_: ServiceContext, name: str) -> None:
        running.add(name)
        most.append(len(running))
        await asyncio.sleep(0.05)
        running.remove(name)

    async def check() -> None:
        put(context, *map(str, range(6)))
        async with running_tasks(context, [kind(run)]):
            await until(lambda: len(most) == 6 and not running and not left(context))

    asyncio.run(check())
    assert max(most) == 2


def test_a_task_that_fails_or_asks_for_it_is_done_again(
    context: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.messages._FIRST_DELAY", timedelta(milliseconds=50))
    tries: list[str] = []

    async def run(_: ServiceContext, name: str) -> None:
        tries.append(name)
        if tries.count(name) == 1:
            raise LaterError("not yet", delay=timedelta(milliseconds=50)) if name == "later" else OSError

    async def check() -> None:
        put(context, "later", "fails")
        async with running_tasks(context, [kind(run)]):
            await until(lambda: len(tries) == 4 and not left(context))

    asyncio.run(check())
    assert sorted(tries) == ["fails", "fails", "later", "later"]


def test_what_is_not_done_goes_back_at_once(context: ServiceContext) -> None:
    begun: list[str] = []

    async def hang(_: ServiceContext, name: str) -> None:
        begun.append(name)
        await asyncio.sleep(60)

    async def check() -> None:
        put(context, "a", "b", "c")
        async with running_tasks(context, [kind(hang)]):
            await until(lambda: len(begun) == 2)
        start = time.monotonic()
        async with running_tasks(context, [kind(hang, num_at_once=3)]):
            await until(lambda: len(begun) == 5)
        # They would be held for a minute otherwise.
        assert time.monotonic() - start < 15

    asyncio.run(check())
    assert sorted(begun[2:]) == ["a", "b", "c"]
    assert left(context) == {"a", "b", "c"}
