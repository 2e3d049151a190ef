"""What a key may have at all: bytes that are stored, priorities, and places in buckets."""

from __future__ import annotations

from jobs.batch_records import Batch
from jobs.batch_store import BatchStore
from jobs.errors import StoredBytesLimitError
from jobs.specs import Priority
from jobs.stored_bytes import StoredBytes
from service.auth import Caller
from service.context import ServiceContext
from service.errors import ForbiddenError


def check_stored_bytes(context: ServiceContext, caller: Caller, num_bytes: int) -> None:
    """Refuses what would not fit before it arrives; it is counted when it has. Blocking.

    Raises:
        StoredBytesLimitError: If the key has no room for it.
    """
    limit = caller.limits.max_stored_bytes
    if limit:
        stored = StoredBytes(context.client).of(caller.owner)
        if stored + num_bytes > limit:
            raise StoredBytesLimitError(stored, num_bytes, limit)


def check_priority(caller: Caller, priority: Priority) -> None:
    """Checks that a key's jobs may have a priority.

    Raises:
        ForbiddenError: If they may not.
    """
    allowed = caller.limits.priorities
    if allowed and priority not in allowed:
        raise ForbiddenError(
            f"this API key's jobs may not have the priority {priority}, only {', '.join(allowed)}"
        )


def check_prefix(caller: Caller, url: str) -> None:
    """Checks that a key's sources and deliveries may lie at an address; other than s3:// is not its matter.

    Raises:
        ForbiddenError: If they may not.
    """
    allowed = caller.limits.s3_prefixes
    if not allowed or not url.startswith("s3://"):
        return
    if not url.startswith(allowed) or ".." in url.split("/"):
        raise ForbiddenError(
            f"this API key's sources and deliveries may only lie below {', '.join(allowed)}, received {url!r}"
        )


def release_inputs(context: ServiceContext, batch: Batch) -> None:
    """Says that inputs which became no jobs take no room of the customer's any more. Blocking."""
    store = BatchStore(context.client)
    gone = set(store.input_job_ids(batch.id)).difference(store.job_ids(batch.id))
    StoredBytes(context.client).set(batch.spec.owner, dict.fromkeys(gone, 0))
