"""The job that a path names, if it is the caller's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from jobs.records import Job
from service.auth import Reader
from service.context import Context

JOB_ID_PATTERN = r"^job_[0-9a-z]{26}$"
JobId = Annotated[
    str,
    Path(pattern=JOB_ID_PATTERN, examples=["job_01k9zq3v5n8w2c7m4t6y1x0abc"], description="Of the job."),
]


async def own_job(job_id: JobId, context: Context, caller: Reader) -> Job:
    """The job.

    Raises:
        JobNotFoundError: If there is none, or it is another customer's.
    """
    return await context.reader.get(job_id, owner=caller.owner)


OwnJob = Annotated[Job, Depends(own_job)]
