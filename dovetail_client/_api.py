"""Requests for values, as the methods of both clients make them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from dovetail_client._answers import parse
from dovetail_client._http import Http
from dovetail_client.errors import NotFoundError
from dovetail_client.models import Page

M = TypeVar("M", bound=BaseModel)
PAGE_SIZE = 100


class Api(Http):
    """What the service says to a request, as values. All of it raises what `send` does."""

    async def get(self, model: type[M], path: str) -> M:
        """What there is."""
        return parse(await self.send("GET", path), model)

    async def post(self, model: type[M], path: str, body: Any = None, **how: Any) -> M:
        """What is made of a JSON value; `how` goes to `send`."""
        return parse(await self.send("POST", path, json=body, **how), model)

    async def delete(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Deletes what is there."""
        patience = self.patience()
        try:
            await self.send("DELETE", path, headers=headers, patience=patience)
        except NotFoundError:
            if not patience.num_failures:
                raise
            # Otherwise an earlier attempt did it, whose answer was lost.

    async def pages(
        self,
        model: type[Page[M]],
        path: str,
        params: tuple[tuple[str, str], ...] = (),
        *,
        limit: int | None = None,
        page_size: int = PAGE_SIZE,
    ) -> AsyncGenerator[M, None]:
        """What a list has, page after page, up to a limit."""
        after: tuple[tuple[str, str], ...] = ()
        num_left = limit
        while num_left is None or num_left > 0:
            size = page_size if num_left is None else min(num_left, page_size)
            asked = (*params, ("limit", str(size)), *after)
            page = parse(await self.send("GET", path, params=asked), model)
            for value in page.data:
                yield value
            if not page.has_more or page.next is None:
                return
            after = (("after", page.next),)
            num_left = None if num_left is None else num_left - len(page.data)


class Methods:
    """What is asked of a service."""

    def __init__(self, api: Api) -> None:
        self._api = api
