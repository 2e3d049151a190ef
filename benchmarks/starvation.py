"""How long one customer waits while another one lists a lot.

    python -m benchmarks.starvation

Starts a Valkey server and the API in a process of its own, gives one key 20,000 jobs, and times filtered
lists of them that find nothing. Then 45 such lists run at once, over and over, beside another key's
`/v1/models`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import httpx
import redis

from benchmarks.lone_api import lone_api
from benchmarks.made_jobs import made_spec
from benchmarks.results_file import write_results
from jobs.api_keys import ApiKeyStore, KeyLimits
from jobs.store import JobStore

# No job is in one of these states, so every job is looked at.
_LIST = "/v1/jobs?label=project:archive&status=failed&status=cancelled"


def make_jobs(store: JobStore, owner: str, count: int) -> None:
    """Queued jobs with a label that all of them have."""
    for _ in range(count):
        store.create(made_spec(owner, labels={"project": "archive"}), max_waiting=count)


def time_lists(client: httpx.Client, headers: Mapping[str, str]) -> dict[str, Any]:
    """Seconds for one page that finds nothing, and for all pages one after the other."""
    start, num_pages, after = time.monotonic(), 0, ""
    first = 0.0
    while True:
        page = client.get(_LIST + (f"&after={after}" if after else ""), headers=headers).json()
        num_pages, after = num_pages + 1, page["next"]
        first = first or time.monotonic() - start
        if not page["has_more"]:
            return {
                "page_seconds": round(first, 3),
                "all_pages_seconds": round(time.monotonic() - start, 3),
                "num_pages": num_pages,
            }


async def time_others(
    url: str, busy: Mapping[str, str], other: Mapping[str, str], *, at_once: int, rounds: int
) -> dict[str, Any]:
    """Seconds of another key's requests while lists run."""
    waits: list[float] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False, limits=limits) as client:

        async def ask_models() -> None:
            while True:
                start = time.monotonic()
                (await client.get("/v1/models", headers=other)).raise_for_status()
                waits.append(time.monotonic() - start)
                await asyncio.sleep(0.05)

        asking = asyncio.create_task(ask_models())
        start = time.monotonic()
        for _ in range(rounds):
            answers = await asyncio.gather(*(client.get(_LIST, headers=busy) for _ in range(at_once)))
            assert all(answer.status_code == 200 for answer in answers)
        seconds = time.monotonic() - start
        asking.cancel()
    return {
        "lists_at_once": at_once,
        "seconds_for_all_of_them": round(seconds / rounds, 2),
        "models_median_seconds": round(median(waits), 3),
        "models_longest_seconds": round(max(waits), 3),
    }


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description="One customer beside another one who lists a lot.")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with lone_api() as api:
        with redis.Redis.from_url(api.redis_url) as store_client:
            keys = ApiKeyStore(store_client)
            limits = KeyLimits(requests_per_minute=1_000_000)
            (busy_key, busy_secret), (_, secret) = (keys.create(n, limits=limits) for n in ("a", "b"))
            make_jobs(JobStore(store_client), busy_key.id, arguments.jobs)
        busy, other = ({"Authorization": f"Bearer {text}"} for text in (busy_secret, secret))
        with httpx.Client(base_url=api.url, timeout=600, trust_env=False) as client:
            found = {"jobs": arguments.jobs, **time_lists(client, busy)}
        found |= asyncio.run(time_others(api.url, busy, other, at_once=45, rounds=arguments.rounds))
    write_results("starvation", found)


if __name__ == "__main__":
    main()
