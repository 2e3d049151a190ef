"""The client that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

import httpx

from dovetail_client._api import Api
from dovetail_client._batches import BatchMethods
from dovetail_client._jobs import JobMethods
from dovetail_client._keys import KeyMethods
from dovetail_client._service import ServiceMethods
from dovetail_client._settings import http_arguments


class AsyncDovetail(JobMethods, BatchMethods, ServiceMethods):
    """A Dovetail service, for programs with an event loop. Files are read and written in threads.

    Args, requests and errors are those of `Dovetail`; `sleep` is awaited.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        client = httpx.AsyncClient(**http_arguments(base_url, api_key, timeout))
        super().__init__(Api(client, max_retries=max_retries, clock=clock, sleep=sleep))
        self.keys = KeyMethods(self._api)

    async def close(self) -> None:
        """Closes its connections."""
        await self._api.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
