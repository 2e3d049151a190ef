"""Nobody is starved: many requests at once, long lists, keys that ask for a lot beside ones that do not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.service.conftest import Api
from tests.service.made import TTL, make_job


async def statuses(api: Api, paths: Sequence[str], headers: Mapping[str, str] | None = None) -> Counter[str]:
    """Asks for all paths at once, each on a connection of its own; how many answers have which status."""
    port = int(api.url.rpartition(":")[2])
    all_open = asyncio.Barrier(len(paths))
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())

    async def ask(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await all_open.wait()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.split(b" ", 2)[1].decode()

    return Counter(await asyncio.gather(*map(ask, paths)))


def test_five_hundred_requests_at_once_are_all_answered(api: Api) -> None:
    job, ended = make_job(api.context), make_job(api.context)
    api.context.store.cancel(ended.id, ttl=TTL)
    paths = [f"/v1/jobs/{job.id}", "/v1/jobs", "/v1/models", f"/v1/jobs/{ended.id}/events", "/readyz"]
    assert asyncio.run(statuses(api, paths * 100)) == {"200": 500}
