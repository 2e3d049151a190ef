"""Checkpoints: layouts, prompts, and every way in which a folder can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pipelines.codecs.space_to_depth import SpaceToDepthAutoencoder
from pipelines.dove import description, loading
from pipelines.dove.attention import JointAttention, WindowPattern
from pipelines.dove.description import CheckpointDescription, embedded_checkpoints
from pipelines.dove.loading import load_checkpoint, resolve_checkpoint
from pipelines.dove.pipeline import DovePipeline
from pipelines.errors import BackendUnavailableError, CheckpointError, InvalidOptionError
from tests.pipelines.tiny import EMPTY_SHA256, TEXT_DIM, TEXT_LENGTH, save_checkpoint, save_nano


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("good") / "ckpt", prompts=("", "a cat"))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "ckpt"))


def add_text_encoder(folder: Path) -> None:
    torch.manual_seed(4)
    config = T5Config(d_model=TEXT_DIM, d_kv=4, num_heads=2, d_ff=16, num_layers=1, vocab_size=8)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "dog": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")


@pytest.mark.parametrize("layout", ["1.5-5b", "5b", "2b"])
def test_original_layouts_load_with_doves_defaults(layout: str, tmp_path: Path) -> None:
    loaded = load_checkpoint(save_checkpoint(tmp_path / "dove", layout))
    assert loaded.description == CheckpointDescription(name="dove", timestep=399)
    assert loaded.prompt_embeds.shape == (1, TEXT_LENGTH, TEXT_DIM)
    assert not loaded.transformer.training
    assert not any(parameter.requires_grad for parameter in loaded.vae.parameters())


def test_our_layout_brings_its_timestep_pattern_and_autoencoder(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_nano(tmp_path / "nano", license="Apache-2.0", clip_length=6))
    assert (loaded.description.timestep, loaded.description.licence, loaded.description.clip_length) == (
        19,
        "Apache-2.0",
        6,
    )
    assert isinstance(loaded.vae, SpaceToDepthAutoencoder)
    processor = loaded.transformer.transformer_blocks[1].attn1.processor
    assert isinstance(processor, JointAttention)
    assert processor.pattern == WindowPattern((2, 3), shifted=True)


def test_dtype_is_applied_to_all_parts(folder: Path) -> None:
    loaded = load_checkpoint(folder, dtype=torch.bfloat16)
    assert {loaded.vae.dtype, loaded.transformer.dtype, loaded.prompt_embeds.dtype} == {torch.bfloat16}


def test_sharded_weights_load(folder: Path) -> None:
    whole = load_checkpoint(folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    whole.transformer.save_pretrained(folder / "transformer", max_shard_size="20KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    again = load_checkpoint(folder)
    for name, parameter in again.transformer.named_parameters():
        assert torch.equal(parameter, whole.transformer.get_parameter(name))
    next((folder / "transformer").glob("*00002*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"00002.*is missing"):
        load_checkpoint(folder)


def test_stored_embeddings_are_chosen_by_prompt_and_need_no_text_encoder(folder: Path) -> None:
    empty, cat = load_checkpoint(folder), load_checkpoint(folder, prompt="a cat")
    assert not torch.equal(empty.prompt_embeds, cat.prompt_embeds)


def test_embeddings_beside_the_folder_or_elsewhere_are_found(folder: Path, tmp_path: Path) -> None:
    expected = load_checkpoint(folder).prompt_embeds
    shutil.move(folder / "prompt_embeddings", tmp_path / "prompt_embeddings")
    assert torch.equal(load_checkpoint(folder).prompt_embeds, expected)
    shutil.move(tmp_path / "prompt_embeddings", tmp_path / "elsewhere")
    loaded = load_checkpoint(folder, prompt_embeddings=tmp_path / "elsewhere")
    assert torch.equal(loaded.prompt_embeds, expected)


def test_text_encoder_is_not_touched_when_the_embedding_is_stored(folder: Path) -> None:
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text("not json")
    (folder / "tokenizer").mkdir()
    load_checkpoint(folder)


def test_new_prompt_is_encoded_once_with_the_folders_text_encoder(folder: Path) -> None:
    add_text_encoder(folder)
    dog, cat = (load_checkpoint(folder, prompt=prompt).prompt_embeds for prompt in ("a dog", "dog a"))
    assert dog.shape == (1, TEXT_LENGTH, TEXT_DIM)
    assert not torch.equal(dog, cat)
    pipeline = DovePipeline.from_checkpoint(folder, prompt="a dog")
    assert pipeline.text_encoder is None
    assert torch.equal(pipeline.restorer.prompt_embeds, dog)


def test_absent_empty_embedding_without_text_encoder_says_so(folder: Path) -> None:
    (folder / "prompt_embeddings" / f"{EMPTY_SHA256}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"empty prompt.*text encoder") as caught:
        load_checkpoint(folder)
    assert caught.value.path == folder / "prompt_embeddings" / f"{EMPTY_SHA256}.safetensors"


def corrupt(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "vae/config.json",
        "transformer/config.json",
        "scheduler/scheduler_config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        f"prompt_embeddings/{EMPTY_SHA256}.safetensors",
    ],
)
@pytest.mark.parametrize("damage", [corrupt, Path.unlink])
def test_missing_and_damaged_files_are_named(name: str, damage: Any, folder: Path) -> None:
    damage(folder / name)
    with pytest.raises(CheckpointError, match=Path(name).parent.name or Path(name).stem):
        load_checkpoint(folder)


def test_truncated_weights_are_an_error(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder)


def test_weights_that_do_not_cover_the_configuration_are_an_error(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 3}))
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights.*transformer_blocks\.2"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("part", "match"),
    [("vae/config.json", "AutoencoderKLCogVideoX"), ("scheduler/scheduler_config.json", "DDIM")],
)
def test_unknown_classes_are_an_error(part: str, match: str, folder: Path) -> None:
    path = folder / part
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "Other"}))
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "text",
    ["{", '{"timestep": 1000}', '{"attention": "none"}', '{"attention": {"window": [0, 8]}}', '{"scale": 0}'],
)
def test_bad_manifest_is_an_error(text: str, folder: Path) -> None:
    (folder / "dovetail.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"dovetail\.json"):
        load_checkpoint(folder)


def test_digests_are_checked(folder: Path) -> None:
    name = "vae/config.json"
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "dovetail.json").write_text(json.dumps({"sha256": {name: digest}}))
    load_checkpoint(folder)
    (folder / "dovetail.json").write_text(json.dumps({"sha256": {name: "0" * 64}}))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(folder)
    (folder / "dovetail.json").write_text(json.dumps({"sha256": {"vae/x.bin": digest}}))
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(folder)


def test_hub_download_fetches_the_text_encoder_only_for_a_prompt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[list[str]] = []

    def fake_download(name: str, *, allow_patterns: list[str], **_: Any) -> str:
        wanted.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(loading, "snapshot_download", fake_download)
    load_checkpoint("owner/name")
    load_checkpoint("owner/name", prompt="a cat")
    assert not any("text_encoder" in pattern for pattern in wanted[0])
    assert any("text_encoder" in pattern for pattern in wanted[1])


def test_being_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_download(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(loading, "snapshot_download", fake_download)
    with pytest.raises(CheckpointError, match="pass a folder"):
        resolve_checkpoint("owner/name")


@pytest.mark.parametrize("name", ["no-such-model", "./missing/folder", "/missing", "a/b/c"])
def test_unknown_names_are_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        resolve_checkpoint(name)


def test_embedded_names_resolve_to_package_data(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (description, loading):
        monkeypatch.setattr(module, "EMBEDDED_FOLDER", tmp_path)
    shutil.copytree(good, tmp_path / "dovetail-dit-nano")
    assert embedded_checkpoints() == ["dovetail-dit-nano"]
    assert resolve_checkpoint("dovetail-dit-nano") == tmp_path / "dovetail-dit-nano"


def test_from_checkpoint_refuses_what_cannot_run(folder: Path) -> None:
    with pytest.raises(InvalidOptionError, match="timestep"):
        DovePipeline.from_checkpoint(folder, timestep=1000)
    with pytest.raises(BackendUnavailableError, match="offload"):
        DovePipeline.from_checkpoint(folder, use_offload=True)
    with pytest.raises(InvalidOptionError, match="does not exist"):
        DovePipeline.from_checkpoint(folder, device="gpu9")
