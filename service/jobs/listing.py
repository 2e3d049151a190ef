"""Pages of jobs: which are wanted, of one owner, or of all for an administrator."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.records import Job, JobState
from service.auth import LOCAL_OWNER
from service.context import ServiceContext
from service.jobs.submissions import MAX_LABELS

ALL_OWNERS = "all"
LabelFilter = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}:[^\x00-\x1f:]{0,200}$")]


class ListQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str | None, Field(max_length=64, description="`next` of the page before.")] = None
    order: Literal["desc", "asc"] = "desc"
    status: Annotated[list[JobState], Field(max_length=6)] = []
    label: Annotated[
        list[LabelFilter], Field(max_length=MAX_LABELS, description="name:value; all must fit.")
    ] = []
    batch_id: Annotated[str | None, Field(max_length=64)] = None
    owner: Annotated[
        str | None,
        Field(
            max_length=64,
            description="For the scope `admin`: jobs of another key, by its id; `local` for those without "
            "keys; `all` for everybody's.",
        ),
    ] = None

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Names and values."""
        return [(name, value) for name, _, value in (label.partition(":") for label in self.label)]


def list_page(context: ServiceContext, caller: str, query: ListQuery) -> tuple[list[Job], str | None]:
    """The page that was asked for. Blocking.

    Args:
        context: Of the process.
        caller: Whose jobs are listed unless the query names an owner, which the caller must be allowed to.
        query: Which jobs.

    Returns:
        The jobs, and where the next page goes on; None after the last.
    """
    is_descending = query.order == "desc"
    list_jobs = partial(
        context.store.list_jobs,
        limit=query.limit,
        after=query.after,
        is_descending=is_descending,
        states=query.status,
        labels=query.labels,
        batch_id=query.batch_id,
    )
    if query.owner != ALL_OWNERS:
        return list_jobs(query.owner or caller)
    pages = [list_jobs(owner) for owner in (LOCAL_OWNER, *context.keys.owners())]
    return _merged(pages, limit=query.limit, is_descending=is_descending)


def _merged(
    pages: list[tuple[list[Job], str | None]], *, limit: int, is_descending: bool
) -> tuple[list[Job], str | None]:
    """One page of the pages of several owners: up to where the first of them may have more."""
    choose = max if is_descending else min
    ends = [following for _, following in pages if following is not None]
    end = choose(ends) if ends else None
    jobs = sorted((job for found, _ in pages for job in found), key=lambda job: job.id, reverse=is_descending)
    if end is not None:
        jobs = [job for job in jobs if choose(job.id, end) == job.id]
    if len(jobs) > limit:
        return jobs[:limit], jobs[limit - 1].id
    return jobs, end
