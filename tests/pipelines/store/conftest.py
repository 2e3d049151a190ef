from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from pipelines.store import ModelStore, StoredModel
from pipelines.store.errors import DownloadError
from pipelines.store.fetching import Patience
from pipelines.store.offers import Offer, PullOptions
from pipelines.store.pulling import pull
from tests.pipelines.store.web import Web, running_web

QUICK = Patience(num_failures=2, first_pause_seconds=0.001, silence_seconds=10)


def weights(seed: int = 0, *, num_values: int = 50_000) -> bytes:
    """A file of weights, of 200 kB."""
    values = np.random.default_rng(seed).random(num_values, dtype=np.float32)
    return bytes(safetensors.numpy.save({"body.weight": values}))


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@dataclass
class Listener:
    """Who pulls, and remembers all that was said."""

    answer: bool = True
    offers: list[Offer] = field(default_factory=list)
    questions: list[Offer] = field(default_factory=list)
    progress: list[tuple[int, int | None]] = field(default_factory=list)
    waited_for: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def waits(self, name: str) -> None:
        self.waited_for.append(name)

    def sees(self, offer: Offer) -> None:
        self.offers.append(offer)

    def accepts(self, offer: Offer) -> bool:
        self.questions.append(offer)
        return self.answer

    def progresses(self, num_bytes: int, total_bytes: int | None) -> None:
        self.progress.append((num_bytes, total_bytes))

    def retries(self, error: DownloadError, pause_seconds: float) -> None:
        self.failures.append(str(error))


def pull_here(
    text: str, store: ModelStore, web: Web, *, listener: Listener | None = None, **options: Any
) -> StoredModel:
    """Pulls with little patience; what is no web address is asked of the server as the hub."""
    hub = "https://hub.invalid" if text.startswith("http") else web.url
    chosen = PullOptions(**({"hub": hub, "patience": QUICK} | options))
    return pull(text, store, audience=listener or Listener(), options=chosen)
