"""A frame whose tiles alone are ambiguous, after some seconds of training."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.tile_view import SHIFT, Riddles, make_model, measure, train
from pipelines.dove.pipeline import DovePipeline

FRAME = 192, 320


def test_tiles_with_a_view_agree_on_a_tone_that_they_cannot_know_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_model(view_tokens=16)
    train(model, steps=300, frame=FRAME, tile=4, batch_size=8, rate=5e-3)
    model.save(tmp_path, card={}, dtype=torch.float32)
    pipeline = DovePipeline.from_checkpoint(tmp_path)
    shift = SHIFT * 127.5
    for sign in (1.0, -1.0):
        riddle = Riddles(
            torch.tensor([0.1]), torch.tensor([sign]), torch.tensor([[1 / 12, 7 / 12, 10 / 20, 19 / 20]])
        )
        found = measure(pipeline, riddle, FRAME, tile=64, overlap=16)
        seeing, alone = found["with the view"], found["tiles alone"]
        assert alone.tone_drift > 0.3 * shift
        assert seeing.tone_drift < alone.tone_drift / 3
        assert seeing.largest_tone_error < alone.largest_tone_error / 3
        assert seeing.seam_ratio < alone.seam_ratio
