"""The propagating restorer as a model: loading, factors, chunks, tiles, strength, memory, runs."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from typer.testing import CliRunner

from cli.main import app
from cli.models import list_models
from media import VideoReader, probe
from pipelines.clips import restore_clip
from pipelines.devices import DtypeName
from pipelines.dove.description import EMBEDDED_FOLDER, embedded_checkpoints
from pipelines.errors import CheckpointError, InvalidOptionError
from pipelines.loaders import load_model
from pipelines.memory_tracking import peak_memory
from pipelines.model import ModelCard
from pipelines.planning.clip_plan import ClipPlan
from pipelines.planning.frame_plan import FramePlan
from pipelines.propagation import (
    PropagationDescription,
    PropagationNet,
    load_propagation,
    save_propagation,
)
from pipelines.propagation.interpolation import enlarge
from pipelines.propagation.model import PropagationModel, load_propagation_model
from pipelines.propagation.network import unshuffle_ratio
from tests.pipelines.propagation.test_motion import texture
from tests.pipelines.propagation.test_network import tiny_network
from tests.workers.made import decode, make_video

CPU = torch.device("cpu")


def make_network(seed: int = 0) -> PropagationNet:
    """A tiny network whose every part has learnt something."""
    network = tiny_network(seed=seed)
    with torch.no_grad():
        network.modulation.out.weight.normal_(0, 0.05)
        for block in (*network.backward_blocks, *network.forward_blocks):
            block.conv2.weight.mul_(5)
    return network


def save(folder: Path, *, seed: int = 0) -> Path:
    network = make_network(seed)
    description = PropagationDescription(name="tiny", network=network.config, licence="Apache-2.0")
    save_propagation(network, folder, description, dtype=torch.float32)
    return folder


def make_model(dtype: DtypeName = "float32", *, strength: float | None = None) -> PropagationModel:
    network = make_network()
    chosen: torch.dtype = getattr(torch, dtype)
    for name, part in network.named_children():
        if name not in ("estimator", "modulation"):
            part.to(chosen)
    card = ModelCard(name="tiny", kind="propagation", scale=4)
    return PropagationModel(network, card, device=CPU, dtype=chosen, strength=strength)


def make_clip(num_frames: int, height: int = 32, width: int = 40, *, motion: int = 1) -> Tensor:
    """A texture that moves to the left: (F, 3, h, w)."""
    noise = torch.rand(1, 3, height, width + motion * num_frames, generator=torch.Generator().manual_seed(3))
    smooth = F.avg_pool2d(F.pad(noise, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    texture = ((smooth - 0.5) * 2 + 0.5).clamp(0, 1)[0]
    return torch.stack([texture[..., motion * i : motion * i + width] for i in range(num_frames)])


def restore(model: PropagationModel, clip: Tensor, size: tuple[int, int], **wishes: Any) -> Tensor:
    plan = model.plan(num_frames=len(clip), size=(clip.shape[-2], clip.shape[-1]), out_size=size, **wishes)
    return torch.cat(list(model.restore(clip, size, plan)))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("num_frames", "size"), [(1, (16, 16)), (4, (21, 35))])
def test_a_chunk_is_restored_as_training_restores_it(
    scale: int, num_frames: int, size: tuple[int, int]
) -> None:
    clip = make_clip(num_frames, *size)
    expected = make_network()(clip[None], scale=scale).frames[0].clamp(0, 1)
    result = restore(make_model(), clip, (size[0] * scale, size[1] * scale))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_given_levels_are_used_in_place_of_the_estimate() -> None:
    network, clip = make_network(), make_clip(2)[None]
    usual = network(clip, scale=4)
    assert torch.equal(network(clip, scale=4, levels=usual.levels).frames, usual.frames)
    other = network(clip, scale=4, levels=usual.levels + 5)
    assert (other.frames - usual.frames).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((25, 30), 2),
        ((20, 24), 1),
        ((45, 52), 3),
        ((70, 120), 4),
        ((120, 150), 4),
        ((19, 100), 4),
        ((10, 12), 1),
    ],
)
def test_other_sizes_are_resampled_from_the_factor_that_reaches_them(
    size: tuple[int, int], scale: int
) -> None:
    clip = make_clip(2, 20, 24)
    native = make_network()(clip[None], scale=scale).frames[0]
    expected = F.interpolate(native, size=size, mode="bicubic", align_corners=False, antialias=True)
    result = restore(make_model(), clip, size)
    torch.testing.assert_close(result, expected.clamp(0, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5, 40)])
def test_frames_below_the_smallest_size_are_extended(size: tuple[int, int]) -> None:
    result = restore(make_model(), make_clip(2, *size), (size[0] * 2, size[1] * 2))
    assert result.shape == (2, 3, size[0] * 2, size[1] * 2)


def test_whole_numbers_give_what_fractions_give_and_stay_as_they_are() -> None:
    clip = (make_clip(2) * 255).to(torch.uint8)
    fractions = clip.float() / 255
    before = fractions.clone()
    assert torch.equal(restore(make_model(), clip, (32, 40)), restore(make_model(), fractions, (32, 40)))
    assert torch.equal(fractions, before)


def test_half_precision_is_near() -> None:
    clip = make_clip(3)
    exact, half = (restore(make_model(dtype), clip, (128, 160)) for dtype in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < (exact - half).abs().max() < 0.02


def test_chunks_meet_without_a_jump_and_far_frames_are_those_of_the_whole_clip() -> None:
    model, clip = make_model(), make_clip(16, 24, 24)
    size = (96, 96)
    whole = restore_clip(model, clip, size)
    plan = model.plan(num_frames=16, size=(24, 24), out_size=size, chunk=10, chunk_overlap=3)
    joined = restore_clip(model, clip, size, plan=plan)
    alone = torch.cat([restore(model, frame[None], size) for frame in clip])
    error, without = ((x - whole).abs().mean(dim=(1, 2, 3)) for x in (joined, alone))
    assert error[:3].max() < 0.05 * without[:3].mean()
    assert error.max() < 0.5 * without.mean()
    assert error[7:10].max() > 0


@pytest.mark.parametrize(("scale", "size"), [(4, (70, 75)), (3, (70, 75)), (2, (139, 150)), (1, (278, 301))])
def test_tiles_of_a_still_clip_give_what_whole_frames_give(scale: int, size: tuple[int, int]) -> None:
    model, clip = make_model(), make_clip(2, *size, motion=0)
    out_size = (size[0] * scale, size[1] * scale)
    tile = 40 * scale * unshuffle_ratio(scale)
    plan = model.plan(num_frames=2, size=size, out_size=out_size, tile=tile)
    assert (plan.layout().rows, plan.layout().cols) == (2, 2)
    tiled, whole = restore(model, clip, out_size, tile=tile), restore(model, clip, out_size)
    # Residuals wait as float16: half a unit of eleven bits, and kernel noise.
    residual = whole - enlarge(clip[None], scale)[0]
    assert ((tiled - whole).abs() <= residual.abs() / 2**11 + 1e-5).all()


def test_tiles_of_a_moving_clip_are_close_to_whole_frames() -> None:
    model, clip = make_model(), make_clip(8, 64, 80, motion=2)
    whole, tiled = restore(model, clip, (256, 320)), restore(model, clip, (256, 320), tile=128)
    assert (tiled - whole).abs().max() < 2e-3
    model.shape = replace(model.shape, margin=0)
    without_margin = restore(model, clip, (256, 320), tile=128)
    assert (without_margin - whole).abs().max() > 10 * (tiled - whole).abs().max()


def test_a_model_says_what_its_user_should_know_of_tiles(tmp_path: Path) -> None:
    model = load_propagation_model(save(tmp_path / "tiny"), device=CPU)
    assert "tiles may differ slightly" in model.card.notes[0]
    # Six convolutions of a frame in blocks, entry and two at the end, and 16 pixels of motion.
    assert model.shape.margin == 25


def test_what_a_name_leads_to_is_decided_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "dovetail-nano-2")
    by_path = load_model(str(folder), device="cpu", dtype="float32")
    monkeypatch.setattr("pipelines.loaders.EMBEDDED_FOLDER", tmp_path)
    monkeypatch.setattr("pipelines.dove.description.EMBEDDED_FOLDER", tmp_path)
    assert embedded_checkpoints() == ["dovetail-nano-2"]
    assert (list_models()[0]["kind"], list_models()[0]["scale"]) == ("propagation", 4)
    by_name = load_model("dovetail-nano-2", device="cpu", dtype="bfloat16", models_dir=tmp_path / "none")
    for model, dtype in ((by_path, torch.float32), (by_name, torch.bfloat16)):
        assert isinstance(model, PropagationModel)
        assert (model.card.kind, model.card.scale, model.card.native_scales) == (
            "propagation",
            4,
            (1, 2, 3, 4),
        )
        assert (model.card.licence, model.dtype) == ("Apache-2.0", dtype)
    assert by_name.card.fingerprint == by_path.card.fingerprint
    (folder / "propagation.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_model("dovetail-nano-2", device="cpu")


def test_weights_and_strength_are_part_of_what_a_model_is(tmp_path: Path) -> None:
    folders = [save(tmp_path / "a"), save(tmp_path / "b"), save(tmp_path / "c", seed=1)]
    first, copy, other = (load_model(str(folder), device="cpu").card.fingerprint for folder in folders)
    assert first == copy != other
    weak, strong = (
        load_model(str(folders[0]), device="cpu", strength=strength).card.fingerprint for strength in (0, 1)
    )
    assert len({first, weak, strong}) == 3


def test_strength_changes_the_frames_and_not_the_estimate() -> None:
    clip = make_clip(2)
    models = [make_model(strength=strength) for strength in (None, 0.0, 1.0)]
    estimated, weak, strong = (restore(model, clip, (128, 160)) for model in models)
    assert (weak - strong).abs().max() > 1e-4
    assert (estimated - strong).abs().max() > 1e-4
    assert models[0].findings.keys() == {"noise", "blur", "compression"}
    assert models[0].findings == models[2].findings


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    folder = str(save(tmp_path / "tiny"))
    with pytest.raises(InvalidOptionError, match=r"from 0 to 1, got 1\.5"):
        load_model(folder, device="cpu", strength=1.5)
    with pytest.raises(InvalidOptionError, match="bicubic has no strength"):
        load_model("bicubic", strength=0.5)
    with pytest.raises(InvalidOptionError, match="needs a ClipPlan, got FramePlan"):
        make_model().restore(make_clip(1), (64, 80), FramePlan())
    with pytest.raises(InvalidOptionError, match="a clip is"):
        make_model().restore(torch.rand(1, 4, 16, 16), (64, 64), ClipPlan())


@pytest.mark.parametrize(
    ("size", "scale", "num_frames", "tile", "dtype"),
    [
        ((40, 60), 4, 1, 0, "float32"),
        ((40, 60), 4, 1, 0, "bfloat16"),
        ((40, 60), 4, 6, 0, "float32"),
        ((40, 60), 4, 6, 0, "bfloat16"),
        ((60, 61), 4, 3, 128, "float32"),
        ((60, 61), 4, 3, 128, "bfloat16"),
        ((40, 60), 3, 5, 0, "float32"),
        ((60, 61), 3, 3, 96, "float32"),
        ((90, 121), 2, 6, 0, "float32"),
        ((121, 121), 2, 3, 128, "float32"),
        ((120, 163), 1, 5, 0, "float32"),
        ((120, 163), 1, 5, 0, "bfloat16"),
        ((240, 163), 1, 3, 128, "float32"),
        ((40, 60), 6, 3, 0, "float32"),
        ((40, 60), 1.5, 4, 0, "float32"),
    ],
)
def test_estimate_holds_for_the_tracked_peak(
    size: tuple[int, int], scale: float, num_frames: int, tile: int, dtype: DtypeName
) -> None:
    model = make_model(dtype)
    out_size = int(size[0] * scale), int(size[1] * scale)
    plan = model.plan(num_frames=num_frames, size=size, out_size=out_size, tile=tile)
    assert (plan.layout().rows > 1) is bool(tile)
    with peak_memory(CPU) as peak:
        clip = torch.rand(num_frames, 3, *size)
        for _ in model.restore(clip, out_size, plan):
            pass
    assert 0.5 * plan.estimated_bytes <= peak.num_bytes <= plan.estimated_bytes


def test_a_longer_chunk_takes_a_state_its_motion_and_a_mean_more_for_each_frame() -> None:
    model, peaks = make_model(), []
    for num_frames in (2, 8):
        clip = torch.rand(num_frames, 3, 32, 40)
        with peak_memory(CPU) as peak:
            for _ in model.restore(clip, (128, 160), ClipPlan()):
                pass
        peaks.append(peak.num_bytes)
    channels, motion, mean = 8, 2 * 3, 3
    assert peaks[1] - peaks[0] <= 6 * 32 * 40 * (channels + motion + mean) * 4


def test_noise_over_what_stands_still_is_averaged_over_the_frames() -> None:
    # The strength says how much noise there is: the estimator knows photographs, not this texture.
    model = load_model("dovetail-nano-2", device="cpu", dtype="float32", strength=0.6)
    original = texture(192, 256).expand(1, 3, -1, -1)
    generator = torch.Generator().manual_seed(5)
    small = F.interpolate(original, scale_factor=0.25, mode="bicubic", antialias=True).expand(7, -1, -1, -1)
    noisy = (small + 6 / 255 * torch.randn(small.shape, generator=generator)).clamp(0, 1)
    error, alone = (
        float((restore(model, clip, (192, 256))[len(clip) // 2] - original[0]).square().mean())
        for clip in (noisy, noisy[3:4])
    )
    assert error < 0.8 * alone


@torch.no_grad()
def test_states_of_hard_edges_do_not_run_away_over_a_chunk() -> None:
    network, _ = load_propagation(EMBEDDED_FOLDER / "dovetail-nano-2")
    wide = torch.cat([texture(48, 64 + 16, seed) for seed in range(3)], dim=1)
    edges = 0.6 * (wide > 0.5) + 0.2 * wide
    clip = torch.cat([edges[..., index : index + 64] for index in range(16)])
    strongest: list[float] = []
    network.forward_blocks.register_forward_hook(
        lambda _, __, state: strongest.append(float(state.abs().max()))
    )
    network(clip[None], scale=4, levels=torch.tensor([[3.0, -0.2, 0.9]]))
    assert max(strongest) < 50  # more than a million without a limit
    assert strongest[-1] < 3 * max(strongest[:5])


@torch.no_grad()
def test_states_of_the_demos_clip_do_not_run_away(tmp_path: Path) -> None:
    """After 48,650 steps they did along the flag pole, on the left, with one limit for both directions."""
    demo = runpy.run_path(str(Path(__file__).parents[3] / "scripts/demo.py"))
    demo["make_clip"](tmp_path / "clip.mp4", num_frames=40)
    with VideoReader(probe(tmp_path / "clip.mp4")) as reader:
        clip = torch.stack([frame.image[:, :80, :80] for frame in reader.frames()][16:])
    network, _ = load_propagation(EMBEDDED_FOLDER / "dovetail-nano-2")
    strongest: list[float] = []
    network.forward_blocks.register_forward_hook(
        lambda _, __, state: strongest.append(float(torch.linalg.vector_norm(state, dim=1).max()))
    )
    network(clip[None], scale=4)
    assert max(strongest) < 2 * max(strongest[:5])


def test_the_command_upscales_with_a_checkpoint_and_reports_what_it_found(tmp_path: Path) -> None:
    checkpoint, clip = save(tmp_path / "tiny"), make_video(tmp_path / "clip.mp4", 12)
    arguments = ["upscale", clip, tmp_path / "out.mp4", "-m", checkpoint, "-s", "2", "--chunk", "5"]
    arguments += ["--preset", "ultrafast", "--device", "cpu", "--strength", "0.5", "--json"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert decode(tmp_path / "out.mp4").size == (128, 96)
    assert decode(tmp_path / "out.mp4").times == decode(clip).times
    assert report["findings"].keys() == {"noise", "blur", "compression"}
    assert report["model"]["model"].endswith("+strength=0.5")
    assert report["plan"]["chunk_len"] == 5
    assert report["warnings"] == []


def test_the_command_refuses_a_strength_that_a_model_has_not(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", 2)
    arguments = ["upscale", clip, tmp_path / "out.mp4", "-m", "bicubic", "--strength", "0.5"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "has no strength" in " ".join(result.stderr.split())
