"""The reference preset against an independent plain computation, bit for bit, on checkpoints of our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.planning.diffusion_plan import DiffusionPlan
from tests.pipelines.dove.plain import PlainDove, Settings
from tests.pipelines.tiny import make_clip, save_checkpoint
from tests.thorough import sized

CASES: dict[str, tuple[str, tuple[int, int, int], Settings]] = {
    "padding": ("1.5-5b", (9, 10, 14), Settings()),
    "odd size and odd frames": ("1.5-5b", (5, 17, 23), Settings(scale=2)),
    "even latent frames": ("1.5-5b", (16, 12, 16), Settings(scale=1)),
    "image and VAE tiles": ("1.5-5b", (1, 20, 27), Settings(has_vae_tiling=True)),
    "three chunks": ("1.5-5b", (33, 8, 12), Settings(scale=2, chunk=16)),
    "tiles and VAE tiles": ("1.5-5b", (3, 20, 30), Settings(tile=(64, 96), has_vae_tiling=True)),
    "bicubic": ("1.5-5b", (9, 10, 14), Settings(scale=2, upsample="bicubic")),
    "another step and seed": ("1.5-5b", (9, 16, 16), Settings(scale=2, timestep=250, seed=7)),
    "added noise": ("1.5-5b", (9, 16, 16), Settings(scale=2, noise_step=100)),
    "2B": ("2b", (17, 16, 16), Settings(scale=2)),
    "2B at its stored table's size": ("2b", (9, 32, 48), Settings(scale=2)),
    "2B, scale 1, odd size, VAE tiles": ("2b", (2, 33, 85), Settings(scale=1, has_vae_tiling=True)),
    "5B": ("5b", (9, 16, 20), Settings(scale=2)),
    "5B, chunks and tiles, merged, two overlaps": (
        "5b",
        (21, 24, 26),
        Settings(scale=2, chunk=8, chunk_overlap=0, tile=(48, 48), overlap=(16, 32)),
    ),
}


RULES = ("sample", "mode")


def has_steady_kernels() -> bool:
    """Whether this processor's kernels sum alike whatever else is in the batch. We decode latents in other
    batches than the plain computation; Intel's kernels do not mind, those for an AMD EPYC change the last
    bits of a clip of 16 frames of 12x16 pixels (by at most 8e-7)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "GenuineIntel" in cpuinfo.read_text()


HAS_STEADY_KERNELS = has_steady_kernels()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {layout: save_checkpoint(root / layout, layout) for layout in ("1.5-5b", "5b", "2b")}


def run_pipeline(pipeline: DovePipeline, clip: torch.Tensor, settings: Settings) -> torch.Tensor:
    has_tiles = all(settings.tile)
    plan = DiffusionPlan(
        chunk_len=settings.chunk,
        chunk_overlap=settings.chunk_overlap if settings.chunk else 0,
        tile_height=settings.tile[0],
        tile_width=settings.tile[1],
        overlap_height=settings.overlap[0] if has_tiles else 0,
        overlap_width=settings.overlap[1] if has_tiles else 0,
    )
    options = DoveOptions.reference(
        latent_rule="sample" if settings.rule == "sample" else "mode",
        upsample="bicubic" if settings.upsample == "bicubic" else "bilinear",
        use_vae_tiling=settings.has_vae_tiling,
        noise_step=settings.noise_step,
    )
    height, width = (side * settings.scale for side in clip.shape[2:])
    torch.manual_seed(settings.seed)
    return pipeline(clip, height=height, width=width, options=options, plan=plan).frames


# In brief every case by one rule, in turn.
@pytest.mark.parametrize(
    ("case", "rule"),
    sized(
        [(case, rule) for case in CASES for rule in RULES],
        brief=[(case, RULES[number % 2]) for number, case in enumerate(CASES)],
    ),
)
def test_reference_preset_gives_the_plain_computations_bits(
    case: str, rule: str, folders: dict[str, Path]
) -> None:
    layout, shape, settings = CASES[case]
    settings, clip = replace(settings, rule=rule), make_clip(*shape)
    pipeline = DovePipeline.from_checkpoint(folders[layout], timestep=settings.timestep)
    got, expected = run_pipeline(pipeline, clip, settings), PlainDove(folders[layout])(clip, settings)
    assert got.shape == expected.shape
    if HAS_STEADY_KERNELS:
        assert torch.equal(got, expected)
    else:
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


# Where a processor has no bfloat16 units, each takes a quarter of a minute.
@pytest.mark.parametrize("layout", sized(["1.5-5b", "2b"], brief=["1.5-5b"]))
@pytest.mark.parametrize("use_lossless_savings", sized([True, False], brief=[True]))
def test_bfloat16_bits_are_the_same_too(
    layout: str, use_lossless_savings: bool, folders: dict[str, Path]
) -> None:
    settings, clip = Settings(scale=2, chunk=16, has_vae_tiling=True), make_clip(17, 20, 44)
    pipeline = DovePipeline.from_checkpoint(
        folders[layout], dtype=torch.bfloat16, use_lossless_savings=use_lossless_savings
    )
    expected = PlainDove(folders[layout], torch.bfloat16)(clip, settings)
    assert torch.equal(run_pipeline(pipeline, clip, settings), expected)


def test_float_input_is_the_same_as_uint8(folders: dict[str, Path]) -> None:
    pipeline, clip = DovePipeline.from_checkpoint(folders["5b"]), make_clip(1, 16, 16)
    as_bytes, as_floats = (run_pipeline(pipeline, x, Settings(scale=1)) for x in (clip, clip.float() / 255))
    assert torch.equal(as_bytes, as_floats)
