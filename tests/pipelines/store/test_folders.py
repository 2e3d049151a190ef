"""The store's folder: finding, verifying, removing, and what a process that died leaves there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.store import ModelStore, find_pulled
from pipelines.store.errors import DamagedModelError, ModelNameError, NotPulledError
from tests.pipelines.store.conftest import pull_here, weights
from tests.pipelines.store.web import Web


@pytest.fixture
def model(web: Web, store: ModelStore) -> Path:
    """The folder of a pulled model, "net"."""
    pull_here(web.put("/net.safetensors", weights()), store, web)
    return store.path("net")


@pytest.mark.parametrize("name", ["net", "../models/net", ".locks", "", "a/b", ".", "..", "x" * 300, "a\0b"])
def test_store_that_does_not_exist_has_no_models(name: str, tmp_path: Path) -> None:
    assert find_pulled(name, folder=tmp_path / "none") is None
    assert (ModelStore(tmp_path / "none").names(), ModelStore(tmp_path / "none").unfinished()) == ([], {})


def test_names_that_lead_elsewhere_find_nothing(model: Path, store: ModelStore) -> None:
    assert find_pulled("net", folder=store.folder) == model / "net.safetensors"
    assert find_pulled(f"../{store.folder.name}/net", folder=store.folder) is None
    with pytest.raises(ModelNameError):
        store.path("../net")


def test_whole_model_has_no_problems(model: Path, store: ModelStore) -> None:
    assert store.verify("net") == []


def flip_a_bit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def add_beside(path: Path) -> None:
    path.with_name("other.safetensors").write_bytes(b"x")


@pytest.mark.parametrize(
    ("damage", "says", "is_seen_by_find"),
    [
        (flip_a_bit, r"net\.safetensors has SHA-256 \w+, pulled was \w+", False),
        (cut, r"net\.safetensors has 1000 bytes, pulled were \d+", True),
        (Path.unlink, r"net\.safetensors is missing", True),
        (add_beside, r"other\.safetensors was not pulled", False),
    ],
)
def test_damage_is_named(
    damage: Any, says: str, is_seen_by_find: bool, model: Path, store: ModelStore
) -> None:
    damage(model / "net.safetensors")
    (problem,) = store.verify("net")
    assert re.fullmatch(says, problem)
    if is_seen_by_find:
        with pytest.raises(DamagedModelError, match="models verify net"):
            find_pulled("net", folder=store.folder)
    else:
        assert find_pulled("net", folder=store.folder) == model / "net.safetensors"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "program"},
        {"files": []},
        {"files": [{"path": "../../../etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "/etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "net.safetensors", "size_bytes": 1, "sha256": "x"}]},
        {"pulled_at": "yesterday"},
    ],
)
def test_record_that_is_not_valid_is_damage(change: dict[str, Any], model: Path, store: ModelStore) -> None:
    path = model / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for read in (store.read, store.verify, lambda name: find_pulled(name, folder=store.folder)):
        with pytest.raises(DamagedModelError, match=r"store\.json is not a valid record"):
            read("net")


def test_missing_record_is_damage(model: Path, store: ModelStore) -> None:
    (model / "store.json").unlink()
    with pytest.raises(DamagedModelError, match=r"store\.json cannot be read: No such file"):
        store.read("net")
    assert store.names() == ["net"]
    store.remove("net")
    assert store.names() == []


def test_removed_model_is_gone(model: Path, store: ModelStore) -> None:
    store.remove("net")
    assert not model.exists()
    assert find_pulled("net", folder=store.folder) is None
    with pytest.raises(NotPulledError, match="there are: none"):
        store.remove("net")


def test_removing_a_link_leaves_what_it_points_to(model: Path, store: ModelStore, tmp_path: Path) -> None:
    shutil.move(model, tmp_path / "elsewhere")
    model.symlink_to(tmp_path / "elsewhere")
    store.remove("net")
    assert (tmp_path / "elsewhere" / "net.safetensors").is_file()
    assert store.names() == []


def test_unfinished_pulls_are_listed_and_removed(store: ModelStore) -> None:
    (store.partial_folder("net", "somewhere") / "net.pth.part").write_bytes(b"123")
    assert store.unfinished() == {"net": 3}
    assert store.names() == []
    store.remove("net")
    assert store.unfinished() == {}


def test_model_whose_replacement_died_half_way_comes_back(model: Path, store: ModelStore) -> None:
    aside = store.folder / ".replaced" / "net"
    aside.parent.mkdir(exist_ok=True)
    model.rename(aside)  # as if killed between the two renames
    with store.locked("net"):
        assert store.verify("net") == []
    assert not aside.exists()


def test_old_model_of_a_finished_replacement_is_deleted(model: Path, store: ModelStore) -> None:
    aside = store.folder / ".replaced" / "net"
    shutil.copytree(model, aside)
    with store.locked("net"):
        assert not aside.exists()
    assert store.verify("net") == []


def test_lock_is_held_by_one_at_a_time(store: ModelStore) -> None:
    waits, order = threading.Event(), []

    def second() -> None:
        with store.locked("net", on_wait=waits.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.locked("net"):
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_file_system_without_locks_is_warned_of(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("pipelines.store.folders.fcntl.flock", refuse)
    with store.locked("net"):
        pass
    assert "has no locks" in caplog.text
