"""Small requests, as the methods of both clients make them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from dovetail_client._answers import parse, require_success
from dovetail_client._calls import Call
from dovetail_client._http import Http
from dovetail_client.models import Page

M = TypeVar("M", bound=BaseModel)
PAGE_SIZE = 100


class Requests:
    """What the methods have in common.

    Args:
        http: The way to the service.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    async def _get(self, model: type[M], path: str) -> M:
        return parse(await self._http.send(Call("GET", path)), model)

    async def _post(
        self,
        model: type[M],
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
    ) -> M:
        call = Call("POST", path, headers=headers or {}, json=body, is_repeatable=is_repeatable)
        return parse(await self._http.send(call), model)

    async def _delete(self, path: str) -> None:
        answer = await self._http.send(Call("DELETE", path))
        if answer.status == 404 and answer.num_attempts > 1:
            return  # the first attempt did it, its answer was lost
        require_success(answer)

    async def _pages(
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
            call = Call("GET", path, params=(*params, ("limit", str(size)), *after))
            page = parse(await self._http.send(call), model)
            for value in page.data:
                yield value
            if not page.has_more or page.next is None:
                return
            after = (("after", page.next),)
            num_left = None if num_left is None else num_left - len(page.data)
