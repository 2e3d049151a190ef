"""Repairing and sweeping, in one of all processes: also where no worker is alive, and where no API is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from jobs.locks import leading
from jobs.queue import JobQueue, TaskId
from jobs.reconciler import reconcile_interval, reconcile_once
from jobs.settings import CommonSettings
from jobs.storage import Storage
from jobs.store import JobStore
from jobs.sweeper import knows_the_storage, sweep_expired, sweep_litter

_EXPIRY_INTERVAL = timedelta(minutes=1)
# Listing a bucket of a million objects takes a thousand requests.
_LITTER_INTERVAL = timedelta(hours=1)


@contextmanager
def housekeeping(
    store: JobStore, queue: JobQueue, storage: Storage, settings: CommonSettings
) -> Iterator[None]:
    """Does it in threads while the block runs.

    Args:
        store: Job records.
        queue: Messages.
        storage: Objects.
        settings: How long what is kept.
    """
    suspects: set[TaskId] = set()

    def reconcile() -> None:
        nonlocal suspects
        suspects = reconcile_once(store, queue, suspects, cancelled_ttl=settings.failed_ttl)

    def sweep() -> None:
        if knows_the_storage(store, storage):
            sweep_litter(store, storage, upload_ttl=settings.upload_ttl)

    repair_interval = reconcile_interval(settings.heartbeat_timeout)
    with ExitStack() as stack:
        for name, interval, act in (
            ("reconciler", repair_interval, reconcile),
            ("sweeper.expired", _EXPIRY_INTERVAL, lambda: sweep_expired(store, storage)),
            ("sweeper.litter", _LITTER_INTERVAL, sweep),
        ):
            stack.enter_context(leading(store.client, name, interval, act))
        yield
