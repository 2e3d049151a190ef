"""The batch that a path names, if it is the caller's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from starlette.concurrency import run_in_threadpool

from jobs.batch_records import Batch
from jobs.batch_store import BatchStore
from service.auth import Reader
from service.context import Context


async def _own_batch(
    batch_id: Annotated[
        str,
        Path(
            pattern=r"^batch_[0-9a-z]{26}$",
            examples=["batch_01k9zq3v5n8w2c7m4t6y1x0abc"],
            description="Of the batch.",
        ),
    ],
    context: Context,
    caller: Reader,
) -> Batch:
    return await run_in_threadpool(BatchStore(context.client).get, batch_id, owner=caller.owner)


OwnBatch = Annotated[Batch, Depends(_own_batch)]
