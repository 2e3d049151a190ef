from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.loaders import load_model
from pipelines.model import Model
from tests.workers.made import make_video


@pytest.fixture(scope="session")
def bicubic() -> Model:
    return load_model("bicubic", device="cpu")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames, four seconds, with a cut at 33 and sound."""
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", 100, cuts=(33,), has_sound=True)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("dovetail-")}
    assert names <= {"dovetail-keeper"}, "that one is of all tests"
