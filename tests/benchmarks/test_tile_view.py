"""A frame whose tiles alone are ambiguous, after some seconds of training."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.tile_view import SHIFT, Riddles, make_model, measure, train
from pipelines.dove.pipeline import DovePipeline

FRAME = 192, 320
# Of whole tokens.
MARK_PLACE = (1 / 12, 7 / 12, 10 / 20, 19 / 20)


def test_tiles_with_a_view_find_a_tone_that_they_cannot_know_alone_and_agree_on_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_model(view_tokens=16)
    train(model, steps=150, frame=FRAME, tile=4, batch_size=8, rate=5e-3)
    model.save(tmp_path, card={}, dtype=torch.float32)
    pipeline = DovePipeline.from_checkpoint(tmp_path)
    found = [
        measure(pipeline, riddle, FRAME, tile=64, overlap=16)
        for riddle in (
            Riddles(torch.tensor([0.1]), torch.tensor([sign]), torch.tensor([MARK_PLACE]))
            for sign in (1.0, -1.0)
        )
    ]
    alone, seeing = (
        max(scores[name].largest_tone_error for scores in found) for name in ("tiles alone", "with the view")
    )
    shift = SHIFT * 127.5
    assert alone > 0.9 * shift  # one of the two at least is as far off as a guess
    assert seeing < alone / 3
    assert max(scores["with the view"].tone_drift for scores in found) < shift / 4
