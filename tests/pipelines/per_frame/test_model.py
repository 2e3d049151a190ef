"""Networks of several architectures as models: tiles, sizes, memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.devices import DtypeName
from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.execution import restore_chunk
from pipelines.memory_tracking import peak_memory
from pipelines.model import ModelCard
from pipelines.per_frame.loading import load_network
from pipelines.per_frame.model import PerFrameModel
from pipelines.per_frame.probing import DEFAULT_MARGIN
from pipelines.planning.diffusion_plan import DiffusionPlan
from pipelines.planning.frame_plan import FramePlan, FrameShape
from tests.pipelines.per_frame.networks import RECIPES, save_network

CPU = torch.device("cpu")
RECIPE_CARD = ModelCard(name="made", kind="per_frame", scale=2)
Models = Callable[[str], PerFrameModel]
LOCAL = [name for name, recipe in RECIPES.items() if recipe.is_local]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Loads a recipe by its name, once."""
    folder = tmp_path_factory.mktemp("networks")

    @functools.cache
    def load(name: str) -> PerFrameModel:
        return load_network(save_network(name, folder / f"{name}.pth"), device=CPU, dtype="float32")

    return load


def restore(model: PerFrameModel, clip: Tensor, *, size: tuple[int, int] = (0, 0), tile: int = 0) -> Tensor:
    height, width = clip.shape[-2:]
    size = size if any(size) else (height * model.card.scale, width * model.card.scale)
    plan = model.plan(num_frames=len(clip), size=(height, width), out_size=size, tile=tile)
    return torch.cat(list(model.restore(clip, size, plan)))


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_gives_what_its_own_class_gives(name: str, models: Models) -> None:
    model = models(name)
    clip = noise(2, 3, 32, 48)
    with torch.inference_mode():
        network = RECIPES[name].make()
        expected = torch.cat([network(frame[None].clone()) for frame in clip]).clamp(0, 1)
    assert model.card.scale == RECIPES[name].scale
    torch.testing.assert_close(restore(model, clip), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("size", [(72, 88), (75, 107)])
def test_tiles_give_what_the_whole_frame_gives(name: str, size: tuple[int, int], models: Models) -> None:
    model = models(name)
    clip = noise(1, 3, *size)
    tile = 40 * model.card.scale
    plan = model.plan(num_frames=1, size=size, out_size=size, tile=tile)
    assert (plan.layout().rows, plan.layout().cols) == (2, 3)
    difference = (restore(model, clip, tile=tile) - restore(model, clip)).abs().max()
    assert difference < 1e-5


def test_a_network_that_sees_the_whole_frame_says_so(models: Models) -> None:
    model = models("rcan")
    assert model.shape.margin == DEFAULT_MARGIN
    assert "borders may show" in model.card.notes[0]
    assert models("compact").card.notes == ()


def test_reach_is_no_longer_than_the_layers_allow(models: Models) -> None:
    # Five convolutions of three pixels, and a quarter and a pixel more.
    assert 3 <= models("compact").shape.margin <= 7
    assert models("compact").shape.alignment == 1
    assert models("swinir").shape.alignment == 8


@pytest.mark.parametrize("name", ["compact", "swinir", "drct", "hat"])
@pytest.mark.parametrize("size", [(1, 1), (9, 13), (17, 40)])
def test_any_size_is_padded_and_cropped(name: str, size: tuple[int, int], models: Models) -> None:
    model = models(name)
    scale = model.card.scale
    result = restore(model, noise(1, 3, *size))
    assert result.shape == (1, 3, size[0] * scale, size[1] * scale)
    assert result.dtype == torch.float32
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


@pytest.mark.parametrize("size", [(30, 50), (96, 128), (200, 300)])
def test_other_sizes_are_resampled(size: tuple[int, int], models: Models) -> None:
    model = models("compact")
    clip = noise(2, 3, 24, 32)
    result = restore(model, clip, size=size)
    assert result.shape == (2, 3, *size)
    if size == (96, 128):
        assert torch.equal(result, restore(model, clip))


def test_a_restorer_keeps_the_size(models: Models) -> None:
    model = models("restorer")
    assert model.card.native_scales == (1,)
    assert restore(model, noise(1, 3, 20, 30)).shape == (1, 3, 20, 30)
    assert restore(model, noise(1, 3, 20, 30), size=(40, 60)).shape == (1, 3, 40, 60)


def test_whole_numbers_give_what_fractions_give(models: Models) -> None:
    clip = (noise(1, 3, 16, 24) * 255).to(torch.uint8)
    assert torch.equal(restore(models("span"), clip), restore(models("span"), clip.float() / 255))


def test_the_clip_stays_as_it_is(models: Models) -> None:
    clip = noise(1, 3, 16, 24)
    before = clip.clone()
    restore(models("rcan"), clip)  # subtracts a mean in place
    assert torch.equal(clip, before)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("size", "tile"), [((33, 50), 0), ((64, 48), 0), ((40, 90), 40)])
def test_estimate_holds_for_the_tracked_peak(
    name: str, size: tuple[int, int], tile: int, models: Models
) -> None:
    model = models(name)
    scale = model.card.scale
    clip = noise(1, 3, *size)
    factor = 3 if tile else scale
    out_size = size[0] * factor, size[1] * factor
    plan = model.plan(num_frames=1, size=size, out_size=out_size, tile=tile * scale)
    with peak_memory(CPU) as peak:
        for _ in model.restore(clip, out_size, plan):
            pass
    assert 0.2 * plan.estimated_bytes <= peak.num_bytes <= plan.estimated_bytes


def test_little_memory_means_smaller_tiles(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("compact")
    wishes = {"num_frames": 1, "size": (256, 256), "out_size": (1024, 1024)}
    whole = model.plan(**wishes)
    monkeypatch.setattr(model, "free_memory", lambda: int(whole.estimated_bytes * 0.8))
    tiled = model.plan(**wishes)
    assert tiled.layout().rows * tiled.layout().cols > 1
    assert tiled.estimated_bytes <= model.free_memory()


def test_smaller_tiles_are_tried_where_memory_ends() -> None:
    sizes: list[tuple[int, ...]] = []

    def network(image: Tensor) -> Tensor:
        sizes.append(tuple(image.shape[-2:]))
        if image.numel() > 3 * 40 * 48:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

    shape = FrameShape(scale=2, bytes_per_pixel=1, margin=4)
    card = RECIPE_CARD
    model = PerFrameModel(network, card, shape, device=CPU, dtype=torch.float32)
    clip = noise(1, 3, 64, 64)
    plan = model.plan(num_frames=1, size=(64, 64), out_size=(128, 128))
    result = torch.cat(list(restore_chunk(model, clip, (128, 128), plan)))
    assert torch.equal(result, clip.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert sizes[0] == (64, 64)
    assert len(sizes) > 3


def test_what_is_no_clip_is_refused(models: Models) -> None:
    model = models("compact")
    with pytest.raises(InvalidOptionError, match="a clip is"):
        next(iter(model.restore(torch.rand(1, 4, 8, 8), (32, 32), FramePlan())))
    with pytest.raises(UnsupportedSizeError, match="positive"):
        next(iter(model.restore(torch.rand(1, 3, 8, 8), (0, 32), FramePlan())))
    foreign = object.__new__(DiffusionPlan)
    with pytest.raises(InvalidOptionError, match="FramePlan"):
        next(iter(model.restore(torch.rand(1, 3, 8, 8), (32, 32), foreign)))


def test_a_square_network_gets_squares(tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []

    def network(image: Tensor) -> Tensor:
        shapes.append(tuple(image.shape[-2:]))
        return image.clone()

    shape = FrameShape(scale=1, multiple=16, min_side=32, is_square=True, alignment=16)
    model = PerFrameModel(network, RECIPE_CARD, shape, device=CPU, dtype=torch.float32)
    clip = noise(1, 3, 20, 50)
    assert torch.equal(next(iter(model.restore(clip, (20, 50), FramePlan()))), clip)
    assert shapes == [(64, 64)]


@pytest.mark.slow
# Inductor's own imports use what torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_a_compiled_network_differs_by_kernel_noise_only(models: Models, tmp_path: Path) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    path = save_network("compact", tmp_path / "compact.pth")
    compiled = load_network(path, device=CPU, dtype="float32", use_compile=True)
    assert not torch._dynamo.utils.counters["frames"]  # measured as it is
    clip = noise(2, 3, 32, 48)
    torch.testing.assert_close(restore(compiled, clip), restore(models("compact"), clip), rtol=0, atol=1e-5)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("compact", "float32"), ("compact", "bfloat16"), ("compact", "float16"), ("swinir", "bfloat16")],
)
def test_a_gpu_gives_what_the_processor_gives(
    name: str, dtype: DtypeName, models: Models, tmp_path: Path
) -> None:
    model = load_network(
        save_network(name, tmp_path / "network.pth"), device=torch.device("cuda"), dtype=dtype
    )
    clip, scale = noise(1, 3, 270, 480), int(model.card.scale or 1)
    expected, size = restore(models(name), clip), (270 * scale, 480 * scale)
    for tile in (0, 512):
        plan = model.plan(num_frames=1, size=(270, 480), out_size=size, tile=tile)
        with peak_memory(model.device) as peak:
            result = next(iter(model.restore(clip, size, plan)))
        assert peak.num_bytes <= plan.estimated_bytes
        torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=2e-2)
    assert model.shape.margin == models(name).shape.margin
