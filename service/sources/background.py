"""What an API process does for sources besides answering."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from service.context import ServiceContext
from service.sources.task import make_fetching
from service.tasks import running_tasks


def fetching_sources(context: ServiceContext) -> AbstractAsyncContextManager[None]:
    """Fetches the sources of jobs while the block runs."""
    return running_tasks(context, [make_fetching()])
