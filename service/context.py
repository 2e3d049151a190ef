"""What the endpoints work with, made once per process and passed on by FastAPI's dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import redis
import redis.asyncio
from fastapi import Depends, Request

from jobs.api_keys import ApiKeyStore
from jobs.async_reader import AsyncJobReader
from jobs.connections import async_client, impatient_client
from jobs.fleet import Fleet
from jobs.multipart import MultipartBucket
from jobs.queue import JobQueue
from jobs.settings import ServiceSettings
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.webhook_secrets import WebhookSecretStore
from service.event_hub import EventHub
from service.in_flight import InFlight
from service.key_use import KeyUse
from service.lanes import Lanes
from service.results.segments import FinishedSegments
from service.stored_content import readable_object


@dataclass(frozen=True)
class ServiceContext:
    """Connections and helpers of one API process.

    Attributes:
        settings: Of the process.
        client: Redis, for code in threads.
        async_client: Redis, for code on the event loop.
        store: Job records, from threads.
        reader: Job records, from the event loop.
        queue: To enqueue tasks.
        storage: Objects.
        fleet: Workers and models.
        keys: API keys.
        webhook_secrets: What signs webhooks.
        events: Wakes those who wait for a job's events.
        key_use: Whether requests need an API key.
        lanes: Threads for slow work.
        in_flight: What each customer has under way here.
        segments: Finished segments of jobs.
    """

    settings: ServiceSettings
    client: redis.Redis
    async_client: redis.asyncio.Redis
    store: JobStore
    reader: AsyncJobReader
    queue: JobQueue
    storage: Storage
    fleet: Fleet
    keys: ApiKeyStore
    webhook_secrets: WebhookSecretStore
    events: EventHub
    key_use: KeyUse
    lanes: Lanes
    in_flight: InFlight
    segments: FinishedSegments

    @property
    def incoming_dir(self) -> Path:
        """Where uploads arrive before they are probed and stored."""
        return self.settings.data_dir / "incoming"

    @property
    def download_bucket(self) -> MultipartBucket | None:
        """Where results are fetched from; None if it is this API."""
        return self.storage.multipart if self.settings.redirect_downloads else None

    @asynccontextmanager
    async def readable_object(self, owner: str, key: str) -> AsyncIterator[Path]:
        """As `readable_object` of `service.stored_content`, without holding up the event loop.

        Args:
            owner: Whose turn it takes.
            key: Of the object.
        """
        with ExitStack() as stack:
            opened = readable_object(self.storage, key)
            yield await self.lanes.storage.run(owner, stack.enter_context, opened)

    async def close(self) -> None:
        """Closes the connections."""
        await self.async_client.aclose()
        self.client.close()


def make_context(settings: ServiceSettings, *, uses_keys: bool) -> ServiceContext:
    """Connects to Redis and the storage.

    Args:
        settings: Of the process.
        uses_keys: Whether requests need an API key even while there is none.

    Raises:
        StorageError: If the storage's address is no such thing.
    """
    client, waiting = impatient_client(settings.redis_url), async_client(settings.redis_url)
    store, reader = JobStore(client), AsyncJobReader(waiting)
    storage = Storage(
        settings.effective_storage_url,
        min_free_bytes=settings.min_free_bytes,
        public_endpoint=settings.storage_public_endpoint,
    )
    lanes = Lanes(num_probes=settings.num_probes)
    queue_client = impatient_client(settings.effective_queue_redis_url)
    context = ServiceContext(
        settings=settings,
        client=client,
        async_client=waiting,
        store=store,
        reader=reader,
        queue=JobQueue(queue_client),
        storage=storage,
        fleet=Fleet(client),
        keys=ApiKeyStore(client),
        webhook_secrets=WebhookSecretStore(client),
        events=EventHub(settings.redis_url),
        key_use=KeyUse(waiting, is_required=uses_keys),
        lanes=lanes,
        in_flight=InFlight(),
        segments=FinishedSegments(store, reader, storage, lanes),
    )
    context.incoming_dir.mkdir(parents=True, exist_ok=True)
    return context


def context_of(request: Request) -> ServiceContext:
    """The context of the process that answers a request."""
    context: ServiceContext = request.app.state.context
    return context


# Not a plain function: FastAPI would run it in a thread, for each request.
async def _context(request: Request) -> ServiceContext:
    return context_of(request)


Context = Annotated[ServiceContext, Depends(_context)]
