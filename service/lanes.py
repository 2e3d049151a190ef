"""Threads for each kind of slow work, apart from those of quick reads, and shared fairly among customers."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """So many threads for one kind of work.

    Where more wants to be done, customers take turns: a free thread goes to the one who has the fewest, and
    one who asks for a hundred things at once delays the first thing of another by one of them.

    Args:
        num_threads: How much is done at the same time.
    """

    def __init__(self, num_threads: int) -> None:
        self._limiter = anyio.CapacityLimiter(num_threads)
        self._num_free = num_threads
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(
        self, owner: str, function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Calls a function in a thread when it is the owner's turn."""
        async with self._turn(owner):
            return await anyio.to_thread.run_sync(
                partial(function, *arguments, **options), limiter=self._limiter
            )

    @asynccontextmanager
    async def _turn(self, owner: str) -> AsyncIterator[None]:
        if self._num_free:
            self._num_free -= 1
            self._running[owner] += 1
        else:
            await self._wait(owner)
        try:
            yield
        finally:
            self._leave(owner)

    async def _wait(self, owner: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave(owner)  # it came just then
            elif turn in self._waiting.get(owner, ()):
                self._waiting[owner].remove(turn)
                if not self._waiting[owner]:
                    del self._waiting[owner]
            raise

    def _leave(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        while self._waiting:
            following = min(self._waiting, key=lambda name: self._running[name])
            turns = self._waiting.pop(following)
            turn = turns.popleft()
            if turns:
                self._waiting[following] = turns  # behind the others
            if not turn.cancelled():  # in this moment: its task has not run since
                self._running[following] += 1
                turn.set_result(None)
                return
        self._num_free += 1


class Lanes:
    """The lanes of a process.

    Args:
        num_probes: Files that are looked into at the same time.

    Attributes:
        listing: Walks over many records: lists, archives, whole batches.
        storage: Bytes to and from disks and object stores.
        probing: Sandboxed looks into files.
    """

    def __init__(self, *, num_probes: int) -> None:
        self.listing = Lane(4)
        self.storage = Lane(24)
        self.probing = Lane(num_probes)
