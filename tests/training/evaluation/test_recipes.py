"""The fixed recipes degrade as their names say, the same way every time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.training.conftest import textured_picture
from training.degradation import code_video, from_uint8, to_uint8
from training.evaluation import ALL_RECIPES, RECIPES, UNSEEN_RECIPES, make_lq, recipes
from training.evaluation.recipes import PHONE_BITS_PER_PIXEL, SAME_BITS_X264, phone_picture
from training.losses import luma
from training.metrics import psnr_y
from training.video_coding import decode_video, encode_video

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pan() -> torch.Tensor:
    """(8, 3, 192, 256): a picture that moves by three pixels a frame."""
    wide = textured_picture(5, 192, 280)
    return from_uint8(np.stack([wide[:, 3 * i : 3 * i + 256] for i in range(8)]))


@pytest.mark.parametrize("recipe", ["bicubic", *UNSEEN_RECIPES])
def test_a_recipe_gives_the_same_every_time(pan: torch.Tensor, recipe: str) -> None:
    lq = make_lq(pan, recipe, 4)
    assert lq.shape == (8, 3, 48, 64)
    torch.testing.assert_close(lq * 255, (lq * 255).round(), atol=1e-3, rtol=0)
    assert torch.equal(lq, make_lq(pan, recipe, 4))


def test_recipes_differ_and_lose_what_bicubic_keeps(pan: torch.Tensor) -> None:
    versions = {recipe: make_lq(pan, recipe, 4) for recipe in ALL_RECIPES}
    for recipe, lq in versions.items():
        others = [other for name, other in versions.items() if name != recipe]
        assert all(float(psnr_y(lq, other).mean()) < 36 for other in others)
        assert all(float(psnr_y(lq, other).mean()) > 12 for other in others)


def test_a_still_of_odd_size_passes_every_recipe() -> None:
    still = from_uint8(textured_picture(5, 100, 132)[None])
    assert all(make_lq(still, recipe, 4).shape == (1, 3, 25, 33) for recipe in ALL_RECIPES)


def test_phone_meets_its_bit_rate_and_sharpens_edges() -> None:
    wide = textured_picture(5, 360, 720)
    hr = from_uint8(np.stack([wide[:, 3 * i : 3 * i + 640] for i in range(25)]))
    picture = phone_picture(hr, (90, 160), np.random.default_rng(0))
    coded = encode_video(
        to_uint8(picture), codec="libx264", bits_per_pixel=PHONE_BITS_PER_PIXEL, options=SAME_BITS_X264
    )
    assert torch.equal(make_lq(hr, "phone", 4), from_uint8(decode_video(coded, 25)))
    with av.open(io.BytesIO(coded)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    # 25 frames are a second.
    assert sum(8 * packet.size for packet in packets) == pytest.approx(
        300_000 * 160 * 90 / (320 * 180), rel=0.35
    )
    plain = interpolate(hr, size=(90, 160), mode="area")
    assert picture.diff(dim=-1).square().mean() > 1.3 * plain.diff(dim=-1).square().mean()


def test_tape_smears_colour_along_lines_more_than_brightness() -> None:
    # Red left of a vertical edge, blue right of it, of different brightness.
    red, blue = torch.tensor([0.7, 0.4, 0.3]), torch.tensor([0.3, 0.4, 0.7])
    hr = torch.cat([red.expand(16, 128, 128, 3), blue.expand(16, 128, 128, 3)], dim=2).permute(0, 3, 1, 2)
    lq = make_lq(hr, "tape", 4).mean(dim=(0, -2))  # noise averages out: (3, 64)
    y = luma(lq[..., None])[0, :, 0]
    difference = lq[0] - lq[2]

    def crossing(signal: torch.Tensor) -> tuple[int, int]:
        """Where the edge is a tenth and nine tenths done."""
        done = (signal - signal[0]) / (signal[-1] - signal[0])
        return int((done > 0.1).nonzero()[0]), int((done > 0.9).nonzero()[0])

    (y_start, y_end), (chroma_start, chroma_end) = crossing(y), crossing(difference)
    assert chroma_end - chroma_start > 2 * (y_end - y_start)
    assert (chroma_start + chroma_end) / 2 >= (y_start + y_end) / 2 + 1
    # Not across lines: the same edge lying down stays sharp in colour too.
    lying = make_lq(hr.transpose(-1, -2), "tape", 4).mean(dim=(0, -1))
    start, end = crossing(lying[0] - lying[2])
    assert end - start < chroma_end - chroma_start - 3


def test_tape_has_noise_in_brightness_and_in_colour() -> None:
    lq = make_lq(torch.full((4, 3, 128, 256), 0.5), "tape", 4)
    assert float(luma(lq).std() * 255) == pytest.approx(4, rel=0.15)
    assert float((lq[:, 0] - lq[:, 1]).std() * 255) > 4
    assert float((lq[1] - lq[0]).abs().mean() * 255) > 2  # new in every frame


def test_animation_is_encoded_twice_and_each_time_costs(
    pan: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings: list[tuple[str, float]] = []

    def noted(clip: torch.Tensor, *, codec: str, **settings: Any) -> torch.Tensor:
        coded = code_video(clip, codec=codec, **settings)
        encodings.append((codec, float(psnr_y(coded, clip).mean())))
        return coded

    monkeypatch.setattr(recipes, "code_video", noted)
    twice = make_lq(pan, "animation", 4)
    assert [codec for codec, _ in encodings] == ["libx264", "libx265"]
    assert all(psnr < 42 for _, psnr in encodings)
    assert float(psnr_y(twice, make_lq(pan, "bicubic", 4)).mean()) < encodings[0][1] - 1


def test_training_names_no_unseen_recipe() -> None:
    assert not set(RECIPES) & set(UNSEEN_RECIPES)
    sources = [
        *ROOT.glob("configs/*.yaml"),
        *ROOT.glob("training/*.py"),
        *ROOT.glob("training/restoration/*.py"),
    ]
    assert len(sources) > 10
    for source in sources:
        text = source.read_text(encoding="utf-8")
        assert not any(name in text for name in ("UNSEEN_RECIPES", "ALL_RECIPES", *UNSEEN_RECIPES)), source


def test_an_unknown_recipe_is_answered_with_those_there_are(pan: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="there are bicubic, real, phone, tape, animation"):
        make_lq(pan, "raw", 4)
