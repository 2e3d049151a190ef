"""Repositories of a hub that runs on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.dove.loading import load_checkpoint
from pipelines.errors import CheckpointError
from pipelines.loaders import load_model
from pipelines.propagation import PropagationDescription, save_propagation
from pipelines.store import ModelStore, find_pulled
from pipelines.store.errors import (
    ContentError,
    DigestMismatchError,
    DownloadError,
    LicenceError,
    ModelTooLargeError,
    SourceError,
    StoreFullError,
)
from pipelines.store.folders import files_in
from pipelines.store.parts import SPARE_BYTES
from tests.pipelines.propagation.test_network import tiny_network
from tests.pipelines.store.conftest import Listener, pull_here, weights
from tests.pipelines.store.web import COMMIT, Web, put_repository, running_web
from tests.pipelines.tiny import save_checkpoint, save_nano

REPO = "owner/nano"


def read_all(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in sorted(files_in(folder))}


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a checkpoint that says its licence."""
    return read_all(save_nano(tmp_path_factory.mktemp("nano") / "nano", licence="Apache-2.0"))


@pytest.fixture(scope="module")
def dove(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a checkpoint without dovetail.json."""
    return read_all(save_checkpoint(tmp_path_factory.mktemp("dove") / "dove"))


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("pipelines.store.hub.get_token", lambda: None)


@pytest.fixture
def cdn() -> Iterator[Web]:
    """Another host."""
    with running_web() as running:
        yield running


def test_checkpoint_is_pulled_and_loads(nano: dict[str, bytes], web: Web, store: ModelStore) -> None:
    extra = {"README.md": b"hi", "run.py": b"import os", "vae/model.bin": b"x", "vae/code.py": b"x"}
    put_repository(web, REPO, nano | extra)
    listener = Listener()
    record = pull_here(REPO, store, web, listener=listener)
    assert (record.name, record.kind, record.source, record.revision) == ("nano", "checkpoint", REPO, COMMIT)
    assert (record.licence, record.licence_from, record.accepted_at) == (
        "Apache-2.0",
        "dovetail.json",
        None,
    )
    folder = find_pulled("nano", folder=store.folder)
    assert folder == store.folder / "nano"
    assert read_all(folder) == nano | {"store.json": (folder / "store.json").read_bytes()}
    assert store.verify("nano") == []
    assert load_checkpoint(folder).description.name == "nano"
    assert listener.questions == []
    assert listener.progress[-1] == (record.size_bytes, record.size_bytes)
    assert [done for done, _ in listener.progress] == sorted(done for done, _ in listener.progress)


def test_revision_is_asked_for_and_its_commit_is_recorded(
    nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano, revision="v1.0", commit="d" * 40)
    record = pull_here(f"{REPO}@v1.0", store, web)
    assert (record.source, record.revision) == (f"{REPO}@v1.0", "d" * 40)


def test_pull_goes_on_with_the_file_it_ended_in(nano: dict[str, bytes], web: Web, store: ModelStore) -> None:
    put_repository(web, REPO, nano)
    large = max(nano, key=lambda path: len(nano[path]))
    path = f"/{REPO}/resolve/{COMMIT}/{large}"
    web.change(path, cut_after=5000, has_ranges=False)
    with pytest.raises(DownloadError, match="breaks off"):
        pull_here(REPO, store, web)
    assert store.names() == []
    web.change(path, cut_after=None, has_ranges=True)
    web.asked.clear()
    pull_here(REPO, store, web)
    asked = {headers["path"]: headers.get("range") for headers in web.asked if "resolve" in headers["path"]}
    assert asked == {path: "bytes=5000-"}
    assert store.verify("nano") == []


def test_files_that_changed_since_are_fetched_again(
    nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano)
    large = max(nano, key=lambda path: len(nano[path]))
    web.change(f"/{REPO}/resolve/{COMMIT}/{large}", cut_after=5000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(REPO, store, web)
    index = json.dumps(json.loads(nano["model_index.json"]) | {"new": 1}).encode()
    later = {path: body for path, body in nano.items() if path != "dovetail.json"}
    put_repository(web, REPO, later | {"model_index.json": index}, commit="e" * 40, card={"license": "mit"})
    assert pull_here(REPO, store, web).revision == "e" * 40
    assert (store.folder / "nano" / "model_index.json").read_bytes() == index
    assert not (store.folder / "nano" / "dovetail.json").exists()


@pytest.mark.parametrize(
    ("card", "licence", "is_asked"),
    [
        ({"license": "apache-2.0"}, "Apache-2.0", False),
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0", True),
        ({"license": "other", "license_name": "cogvideox"}, "cogvideox", True),
        ({"license": "other"}, "other", True),
        ({"license": ["mit", "cc-by-nc-4.0"]}, "mit AND cc-by-nc-4.0", True),
        ({"tags": ["video"]}, None, True),
        (None, None, True),
    ],
)
def test_licence_of_the_model_card_counts(
    card: dict[str, Any] | None,
    licence: str | None,
    is_asked: bool,
    dove: dict[str, bytes],
    web: Web,
    store: ModelStore,
) -> None:
    put_repository(web, REPO, dove, card=card)
    listener = Listener(answer=False)
    if is_asked:
        with pytest.raises(LicenceError):
            pull_here(REPO, store, web, listener=listener)
        assert not any("resolve" in headers["path"] for headers in web.asked)
        listener.answer = True
    record = pull_here(REPO, store, web, listener=listener)
    assert (record.licence, record.accepted_at is not None) == (licence, is_asked)
    assert record.licence_from == (None if licence is None else "model card")


def test_dovetail_json_speaks_before_the_model_card(
    nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano, card={"license": "cc-by-nc-4.0"})
    assert pull_here(REPO, store, web).licence == "Apache-2.0"


def test_user_cannot_declare_another_licence_than_the_owner(
    dove: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, dove, card={"license": "cc-by-nc-4.0"})
    with pytest.raises(LicenceError, match=r"declares the licence 'cc-by-nc-4\.0'"):
        pull_here(REPO, store, web, licence="MIT")
    assert pull_here(REPO, store, web, licence="CC-BY-NC-4.0").licence == "cc-by-nc-4.0"


def test_broken_index_is_known_before_the_weights_come(
    dove: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, dove | {"model_index.json": b"[]"}, card={"license": "mit"})
    with pytest.raises(ContentError, match="must hold a JSON object"):
        pull_here(REPO, store, web)
    assert not any(headers["path"].endswith("model.safetensors") for headers in web.asked)


def test_invalid_description_is_an_error(nano: dict[str, bytes], web: Web, store: ModelStore) -> None:
    put_repository(web, REPO, nano | {"dovetail.json": b'{"timestep": -1}'})
    with pytest.raises(CheckpointError, match="timestep"):
        pull_here(REPO, store, web)
    put_repository(web, REPO, nano | {"dovetail.json": b" " * (1 << 21)})
    with pytest.raises(ModelTooLargeError):
        pull_here(REPO, store, web)


def test_text_encoder_comes_only_where_no_embedding_is(
    dove: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    text = {
        "text_encoder/config.json": b"{}",
        "text_encoder/model.safetensors": weights(),
        "tokenizer/spiece.model": b"words",
        "tokenizer/code.py": b"import os",
    }
    put_repository(web, "owner/with", dove | text)
    put_repository(web, "owner/without", {k: v for k, v in dove.items() if "prompt" not in k} | text)
    paths = [
        {file.path for file in pull_here(f"owner/{name}", store, web).files} for name in ("with", "without")
    ]
    assert [len(found & set(text)) for found in paths] == [0, 3]
    assert "tokenizer/code.py" not in paths[1]


BODY = weights(5)
FILES = {"weights/4x_a.safetensors": BODY, "4x_b.safetensors": weights(6), "README.md": b"hi"}


def test_one_file_of_a_repository_is_pulled(web: Web, store: ModelStore) -> None:
    put_repository(web, "owner/nets", FILES, card={"license": "mit"})
    record = pull_here("hf://owner/nets/weights/4x_a.safetensors", store, web)
    assert (record.name, record.kind, record.licence) == ("4x_a", "network", "MIT")
    assert record.source == "hf://owner/nets/weights/4x_a.safetensors"
    assert find_pulled("4x_a", folder=store.folder) == store.folder / "4x_a" / "4x_a.safetensors"


def test_propagating_restorer_is_pulled_and_loads(tmp_path: Path, web: Web, store: ModelStore) -> None:
    network = tiny_network()
    description = PropagationDescription(name="tiny", network=network.config)
    save_propagation(network, tmp_path / "tiny", description, dtype=torch.float32)
    files = read_all(tmp_path / "tiny")
    put_repository(web, "owner/tiny", files | {"README.md": b"hi"}, card={"license": "mit"})
    record = pull_here("owner/tiny", store, web)
    assert (record.kind, {file.path for file in record.files}) == ("checkpoint", set(files))
    model = load_model("tiny", device="cpu", models_dir=store.folder)
    assert (model.card.kind, model.card.licence) == ("propagation", "MIT")


@pytest.mark.parametrize("page", ["blob/main", "resolve/main", "raw/main"])
def test_page_of_a_file_stands_for_the_file(page: str, web: Web, store: ModelStore) -> None:
    put_repository(web, "owner/nets", FILES, card={"license": "mit"}, revision="main")
    url = f"{web.url}/owner/nets/{page}/weights/4x_a.safetensors?download=true"
    record = pull_here(url, store, web, hub=web.url)
    assert record.source == "hf://owner/nets@main/weights/4x_a.safetensors"


@pytest.mark.parametrize("page", ["", "/", "/tree/main"])
def test_page_of_a_repository_stands_for_the_repository(
    page: str, nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano, revision="main" if "tree" in page else "")
    assert pull_here(f"{web.url}/{REPO}{page}", store, web, hub=web.url).name == "nano"


def test_only_file_of_weights_of_a_repository_is_the_model(web: Web, store: ModelStore) -> None:
    put_repository(web, "owner/net", {"README.md": b"", "sub/4x.safetensors": BODY}, card={"license": "mit"})
    assert pull_here("owner/net", store, web, sha256=hashlib.sha256(BODY).hexdigest()).name == "net"
    assert find_pulled("net", folder=store.folder) == store.folder / "net" / "4x.safetensors"


@pytest.mark.parametrize(
    ("text", "files", "says"),
    [
        ("owner/net", FILES, r"hf://owner/net/FILE: 4x_b\.safetensors, weights/4x_a\.safetensors"),
        ("owner/net", {"README.md": b"", "model.bin": b""}, "neither a model_index"),
        ("owner/net", {"propagation.json": b"{}"}, r"has no propagation\.safetensors"),
        ("owner/net", {"model_index.json": b"{}", "vae/a.bin": b""}, r"has no transformer/\*\.safetensors"),
        ("hf://owner/net/absent.pth", FILES, r"no file 'absent\.pth'"),
    ],
)
def test_repository_without_one_model_is_an_error(
    text: str, files: dict[str, bytes], says: str, web: Web, store: ModelStore
) -> None:
    put_repository(web, "owner/net", files)
    with pytest.raises(ContentError, match=says):
        pull_here(text, store, web)


def test_paths_that_leave_the_folder_or_steer_a_terminal_do_not_exist(
    nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    strange = {"vae/../../../evil.json": b"{}", "/etc/evil.json": b"{}", "vae/\x1b[2J.json": b"{}"}
    put_repository(web, REPO, nano | strange)
    assert {file.path for file in pull_here(REPO, store, web).files} == set(nano)
    with pytest.raises(SourceError):
        pull_here("hf://owner/nano/../../evil.safetensors", store, web)


@pytest.mark.parametrize("path", ["model_index.json", "vae/diffusion_pytorch_model.safetensors"])
def test_what_differs_from_the_hubs_digest_is_not_kept(
    path: str, nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano)
    web.change(f"/{REPO}/resolve/{COMMIT}/{path}", body=b"{}" + nano[path][2:])
    with pytest.raises(DigestMismatchError, match=r"has the (SHA-256|git id) \w+, expected was \w+"):
        pull_here(REPO, store, web)
    assert store.names() == []
    assert not list(store.folder.rglob(Path(path).name))


def test_hub_knows_before_that_the_digest_is_another(web: Web, store: ModelStore) -> None:
    put_repository(web, "owner/nets", FILES)
    with pytest.raises(DigestMismatchError, match="nothing is fetched"):
        pull_here("hf://owner/nets/4x_b.safetensors", store, web, sha256="0" * 64)


def test_lack_of_room_for_all_files_is_known_before_weights_come(
    dove: dict[str, bytes], web: Web, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_repository(web, REPO, dove, card={"license": "mit"})
    free = SPARE_BYTES + sum(map(len, dove.values())) - 1
    monkeypatch.setattr("pipelines.store.parts.shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(StoreFullError):
        pull_here(REPO, store, web)
    assert len(web.asked) == 1


def test_one_digest_cannot_be_that_of_a_checkpoint(
    nano: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, nano)
    with pytest.raises(SourceError, match="--sha256 is for a single one"):
        pull_here(REPO, store, web, sha256="0" * 64)


def test_size_is_known_before_anything_comes(nano: dict[str, bytes], web: Web, store: ModelStore) -> None:
    put_repository(web, REPO, {path: body for path, body in nano.items() if path != "dovetail.json"})
    with pytest.raises(ModelTooLargeError, match="--max-gb"):
        pull_here(REPO, store, web, max_bytes=1000)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("status", "error_code", "says"),
    [
        (404, "RepoNotFound", r"has no model 'owner/nano', or it is private"),
        (401, "RepoNotFound", r"has no model 'owner/nano', or it is private"),
        (404, "RevisionNotFound", r"'owner/nano' has no revision 'v9'"),
        (403, "GatedRepo", "only to those who asked"),
        (500, "", "cannot ask"),
    ],
)
def test_answers_of_the_hub_are_told_apart(
    status: int, error_code: str, says: str, web: Web, store: ModelStore
) -> None:
    headers = {"X-Error-Code": error_code} if error_code else {}
    web.put("/api/models/owner/nano/revision/v9", status=status, headers=headers)
    with pytest.raises(DownloadError, match=says):
        pull_here("owner/nano@v9", store, web)


def test_files_of_a_gated_model_say_how_to_get_them(
    dove: dict[str, bytes], web: Web, store: ModelStore
) -> None:
    put_repository(web, REPO, dove, card={"license": "mit"})
    web.change(f"/{REPO}/resolve/{COMMIT}/model_index.json", status=403)
    with pytest.raises(DownloadError, match="only to those who asked") as caught:
        pull_here(REPO, store, web)
    assert "HF_TOKEN" in caught.value.__notes__[0]


def test_hub_that_cannot_be_reached_is_an_error(store: ModelStore, web: Web) -> None:
    with pytest.raises(DownloadError, match="cannot ask http://127"):
        pull_here(REPO, store, web, hub="http://127.0.0.1:1")
    with pytest.raises(SourceError, match="must be https"):
        pull_here(REPO, store, web, hub="http://hub.example.com")


def test_token_is_shown_to_the_hub_and_to_nobody_else(
    web: Web, cdn: Web, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.store.hub.get_token", lambda: "hf_secret")
    put_repository(web, "owner/net", {"4x.safetensors": BODY}, card={"license": "mit"})
    target = cdn.put("/blob", BODY, cut_after=100_000)
    path = f"/owner/net/resolve/{COMMIT}/4x.safetensors"
    web.put(path, status=302, headers={"Location": target})
    listener = Listener()
    pull_here("owner/net", store, web, listener=listener)
    assert {headers.get("authorization") for headers in web.asked if headers["path"] == path} == {
        "Bearer hf_secret"
    }
    assert len(cdn.asked) == 3
    assert not any("authorization" in headers for headers in cdn.asked)
    assert "hf_secret" not in repr(listener.offers)
