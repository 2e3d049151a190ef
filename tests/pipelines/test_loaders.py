"""Models by name, and what they tell of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.devices import choose_device, choose_dtype
from pipelines.dove.model import checkpoint_fingerprint
from pipelines.dove.options import DoveOptions
from pipelines.errors import CheckpointError, InvalidOptionError
from pipelines.loaders import load_model
from pipelines.model import Model
from pipelines.planning.kinds import plan_from_json, plan_to_json, shape_from_json, shape_to_json
from tests.pipelines.tiny import save_nano


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nano(tmp_path_factory.mktemp("nano"), licence="Apache-2.0")


@pytest.fixture
def bicubic() -> Model:
    return load_model("bicubic")


@pytest.fixture(scope="module")
def nano(folder: Path) -> Model:
    return load_model(str(folder), device="cpu", dtype="float32")


def plan(model: Model, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "num_frames": 100,
        "size": (48, 64),
        "out_size": (192, 256),
        "reserved_bytes": 0,
    }
    return model.plan(**(arguments | changes))


def test_auto_is_bfloat16_only_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda is_fast=is_fast: is_fast)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        assert choose_dtype("auto", torch.device("cpu")) is expected
    assert choose_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert choose_dtype("float32", torch.device("cuda")) is torch.float32


def test_unknown_devices_and_dtypes_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="gpu7"):
        choose_device("gpu7")
    with pytest.raises(InvalidOptionError, match="float8"):
        choose_dtype("float8", torch.device("cpu"))  # type: ignore[arg-type]


def test_a_model_tells_what_it_is(nano: Model, folder: Path) -> None:
    assert (nano.card.scale, nano.card.licence, nano.dtype) == (4, "Apache-2.0", torch.float32)
    assert nano.identity()["model"] == checkpoint_fingerprint(folder)


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = save_nano(tmp_path / "copy", licence="Apache-2.0")
    assert checkpoint_fingerprint(copy) == checkpoint_fingerprint(folder)
    weights = next((copy / "transformer").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checkpoint_fingerprint(copy) != checkpoint_fingerprint(folder)


def test_a_plan_survives_json(nano: Model, bicubic: Model) -> None:
    for planned in (plan(nano, tile=128), plan(nano), plan(bicubic)):
        assert plan_from_json(json.loads(json.dumps(plan_to_json(planned)))) == planned
    for model in (nano, bicubic):
        assert shape_from_json(json.loads(json.dumps(shape_to_json(model.shape)))) == model.shape


def test_bound_options_are_part_of_what_a_model_is(nano: Model, folder: Path) -> None:
    usual = load_model(str(folder), device="cpu", dtype="float32", options=DoveOptions())
    other = load_model(str(folder), device="cpu", dtype="float32", options=DoveOptions(color_sigma=2.0))
    assert usual.identity() == nano.identity()
    assert other.identity() != nano.identity()


def test_what_the_user_asks_for_is_planned(nano: Model, bicubic: Model) -> None:
    planned = plan(nano, chunk=10, chunk_overlap=4, tile=96, overlap=32)
    assert (planned.chunk_len, planned.chunk_overlap, planned.tile_height) == (10, 4, 96)
    assert plan(bicubic, chunk=3).chunk_len == 3


def test_a_model_that_is_nowhere_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        load_model("no-such-model")
