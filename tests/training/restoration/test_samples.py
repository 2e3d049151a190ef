"""Uploads with known levels, blocks of every factor, crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.propagation.network import unshuffle_ratio
from training.data import SourceLibrary
from training.restoration.config import RestorationConfig, UploadConfig
from training.restoration.samples import (
    defocus,
    detail_of,
    draw_batch,
    inner,
    make_block,
    make_sample,
    moving_picture,
)
from training.restoration.uploads import Upload, apply_upload, draw_upload, gaussian_blur


@pytest.fixture
def library(training_data: Path, restoration_config: RestorationConfig) -> SourceLibrary:
    return SourceLibrary(training_data, restoration_config.data)


def test_what_is_held_out_is_not_trained_on(library: SourceLibrary) -> None:
    assert len(library.pictures) == 2
    assert library.videos == []


def test_a_block_is_a_function_of_its_index(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    first, again, other = (make_block(restoration_config, library, index) for index in (1, 1, 2))
    assert set(first) == {f"{name}{scale}" for name in ("hr", "lq", "levels") for scale in (1, 2, 3, 4)}
    assert all(np.array_equal(first[name], again[name]) for name in first if name.startswith("hr"))
    assert not np.array_equal(first["hr4"], other["hr4"])
    for scale in (1, 2, 3, 4):
        assert first[f"hr{scale}"].shape[1:] == (3, 3, 64, 64)
        assert first[f"lq{scale}"].shape[1:] == (3, 3, 64 // scale, 64 // scale)


def test_a_stage_of_one_factor_makes_samples_of_that_factor_alone(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    assert set(make_block(restoration_config, library, 0)) == {"hr4", "lq4", "levels4"}


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_crops_of_every_factor_lie_over_each_other(
    library: SourceLibrary, restoration_config: RestorationConfig, scale: int
) -> None:
    stage = restoration_config.stages[1].model_copy(update={"scales": {scale: 1.0}, "batch_frames": 18})
    block = make_block(restoration_config, library, 1)
    batch = draw_batch(block, stage, 3, np.random.default_rng(0))
    side = 16 * unshuffle_ratio(scale)
    assert batch.lq.shape == (6, 3, 3, side, side)
    assert batch.hr.shape == (6, 3, 3, side * scale, side * scale)
    small = F.interpolate(batch.hr.flatten(0, 1), size=(side, side), mode="bicubic", antialias=True)
    assert (small - batch.lq.flatten(0, 1)).abs().mean() < 0.06
    assert (batch.levels[:, 0] <= 8).all()


def test_a_stage_takes_single_frames_and_clips_in_turn(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    stage = restoration_config.stages[1]
    assert [stage.frames_of_block(index) for index in (2, 3)] == [1, 3]
    singles, clips = (make_block(restoration_config, library, index) for index in (2, 3))
    assert singles["hr4"].shape[1] == 1
    assert clips["hr4"].shape[1] == 3
    assert len(singles["hr2"]) >= len(clips["hr2"])
    batch = draw_batch(singles, stage, 1, np.random.default_rng(0))
    assert batch.lq.shape[:2] == (6, 1)
    assert draw_batch(clips, stage, 3, np.random.default_rng(0)).lq.shape[:2] == (2, 3)


def test_clean_samples_have_no_levels(library: SourceLibrary, restoration_config: RestorationConfig) -> None:
    stage = restoration_config.stages[0].model_copy(update={"clean_probability": 1.0})
    batch = draw_batch(make_block(restoration_config, library, 0), stage, 1, np.random.default_rng(0))
    assert batch.levels.abs().max() == 0
    small = F.interpolate(batch.hr[:, 0], size=(16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    assert (small - batch.lq[:, 0]).abs().max() <= 0.5 / 255 + 1e-6


def test_smooth_samples_have_less_detail(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    data = restoration_config.data.model_copy(update={"detail_candidates": 4, "num_frames": 1})
    detail = {}
    for share in (0.0, 1.0):
        wanted = data.model_copy(update={"smooth_probability": share})
        made = (
            make_sample(wanted, UploadConfig(), library, 4, np.random.default_rng(seed)) for seed in range(6)
        )
        detail[share] = [detail_of(torch.from_numpy(hr).float()) for hr, _, _ in made]
    assert all(smooth < rich for smooth, rich in zip(detail[1.0], detail[0.0], strict=True))


def test_smooth_samples_are_shrunk_less(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    data = restoration_config.data.model_copy(
        update={"smooth_probability": 1.0, "num_frames": 1, "image_probability": 0.0, "downscale": (0.6, 0.6)}
    )
    detail = []
    for size in ((0.6, 0.6), (1.0, 1.0)):
        wanted = data.model_copy(update={"smooth_downscale": size})
        made = [
            make_sample(wanted, UploadConfig(), library, 4, np.random.default_rng(seed)) for seed in range(6)
        ]
        detail.append(sum(detail_of(torch.from_numpy(hr).float()) for hr, _, _ in made))
    assert detail[1] < detail[0]


def test_what_is_out_of_focus_is_so_in_the_original_and_the_rest_stays_sharp() -> None:
    clip = torch.rand(2, 3, 64, 64, generator=torch.manual_seed(0))
    shares = []
    for seed in range(8):
        soft = defocus(clip, (3.0, 3.0), np.random.default_rng(seed))
        kept = (soft == clip).all(dim=(0, 1))
        shares.append(float(kept.float().mean()))
        assert detail_of(soft) < detail_of(clip)
        assert soft[:, :, ~kept].std() < clip[:, :, ~kept].std()
    assert min(shares) < 0.1
    assert 0.2 < max(shares) < 0.9


def test_defocused_samples_tell_the_same_levels(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    uploads = UploadConfig(
        blur_probability=0.0, noise_probability=0.0, jpeg_probability=0.0, codec_probability=0.0
    )
    made = []
    for share in (0.0, 1.0):
        data = restoration_config.data.model_copy(
            update={"smooth_probability": 1.0, "num_frames": 1, "defocus_probability": share}
        )
        made.append(make_sample(data, uploads, library, 4, np.random.default_rng(3)))
    (sharp, _, sharp_levels), (soft, _, soft_levels) = made
    assert detail_of(torch.from_numpy(soft).float()) < 0.8 * detail_of(torch.from_numpy(sharp).float())
    assert np.array_equal(sharp_levels, soft_levels)


def test_a_moving_picture_moves_steadily_inside_the_picture(
    library: SourceLibrary, restoration_config: RestorationConfig
) -> None:
    clips = [
        moving_picture(restoration_config.data, library, np.random.default_rng(seed)) for seed in range(4)
    ]
    assert all(clip.shape == (3, 3, 64, 64) for clip in clips)
    assert all(clip.min() >= 0 and clip.max() <= 1 for clip in clips)
    assert any((clip[0] - clip[2]).abs().mean() > 0.01 for clip in clips)


def test_levels_are_zero_for_nothing_and_grow_with_the_damage() -> None:
    assert Upload().levels(4) == (0.0, 0.0, 0.0)
    assert Upload(sharpen_amount=0.8).levels(4) == (0.0, -0.4, 0.0)
    assert Upload(blur_sigma=1.6, sharpen_amount=0.8).levels(4) == (0.0, 0.0, 0.0)
    mild = Upload(blur_sigma=0.8, noise_sigma=2.0, jpeg_quality=95.0).levels(4)
    hard = Upload(blur_sigma=2.0, noise_sigma=8.0, jpeg_quality=50.0, codec="libx264", crf=30.0).levels(4)
    assert mild == pytest.approx((2.0, 0.2, 5 / 60))
    assert hard == pytest.approx((8.0, 0.5, 0.9))


def test_uploads_are_drawn_within_their_ranges() -> None:
    config = UploadConfig(sharpen_probability=0.5)
    amounts = set()
    for seed in range(50):
        upload = draw_upload(config, 2, np.random.default_rng(seed))
        assert upload.blur_sigma == 0 or 0.3 <= upload.blur_sigma <= 1.0
        assert upload.noise_sigma == 0 or 0.5 <= upload.noise_sigma <= 8
        assert upload.jpeg_quality is None or 50 <= upload.jpeg_quality <= 95
        assert upload.codec in (None, "libx264")
        assert upload.sharpen_amount == 0 or 0.2 <= upload.sharpen_amount <= 1
        amounts.add(upload.sharpen_amount)
    assert 10 < len(amounts) < 40


@pytest.mark.parametrize(
    "upload",
    [
        Upload(noise_sigma=8.0),
        Upload(blur_sigma=2.0),
        Upload(sharpen_amount=0.8),
        Upload(jpeg_quality=50.0),
        Upload(codec="libx264", crf=30.0),
        Upload(codec="libx265", crf=32.0),
    ],
)
def test_every_degradation_leaves_its_trace(library: SourceLibrary, upload: Upload) -> None:
    clip = library.sample(np.random.default_rng(0), 3)
    clean = apply_upload(clip, Upload(), (32, 32), np.random.default_rng(1)).float()
    degraded = apply_upload(clip, upload, (32, 32), np.random.default_rng(1)).float()
    assert degraded.shape == (3, 3, 32, 32)
    assert 1 < (degraded - clean).abs().mean() < 40


def test_a_blur_keeps_the_mean_and_flat_frames() -> None:
    flat = torch.full((2, 3, 20, 20), 0.4)
    assert torch.allclose(gaussian_blur(flat, 1.7), flat, atol=1e-6)
    noise = torch.rand(1, 3, 40, 40)
    assert detail_of(gaussian_blur(noise, 1.0)) < 0.5 * detail_of(noise)


def test_the_border_is_left_out_in_output_pixels() -> None:
    assert inner(torch.zeros(1, 64, 64), 2, 4).shape == (1, 48, 48)
    assert inner(torch.zeros(1, 48, 48), 2, 3).shape == (1, 36, 36)
    assert inner(torch.zeros(1, 64, 64), 2, 1).shape == (1, 48, 48)
    assert inner(torch.zeros(1, 64, 64), 0, 2).shape == (1, 64, 64)
