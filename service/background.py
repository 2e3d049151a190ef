"""What an API process does besides answering."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.context import ServiceContext


@asynccontextmanager
async def run_background(context: ServiceContext) -> AsyncIterator[None]:
    """Runs it while the block does."""
    yield
