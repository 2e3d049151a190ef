"""Tone drift and seams between tiles with a view of the whole frame, and with today's fusion alone.

    python -m benchmarks.tile_view [--steps 5000]

On frames whose tiles are ambiguous: a grey with one large mark, white or black, which tells whether the grey
is to become lighter or darker. A tile that does not see the mark cannot know. A tiny checkpoint is trained
for it (seven minutes of one core), every other step without the view, so that tiles alone do what they can.
Frames of 2160x3840 are then restored in tiles of 512 pixels. Colours are not matched to the source: it would
hide everything.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.results_file import write_results
from benchmarks.riddles import RIDDLES, SHIFT, Riddles, middles
from pipelines.dove.one_step import one_step
from pipelines.dove.options import DoveOptions
from pipelines.dove.pipeline import DovePipeline
from pipelines.dove.view import FrameView
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.plan import ChunkRequest
from pipelines.planning.view import ViewSettings, view_size
from pipelines.seams import seam_ratio, tile_tones, tone_drift
from training.config import ModelConfig
from training.model import OneStepModel, upsample

SCALE, TOKEN = 4, 16
FRAME = 2160, 3840
TILE, OVERLAP = 512, 64
STEPS = 5000
UNMATCHED = DoveOptions(color_match="none")
MODEL = ModelConfig(
    name="tile-view",
    timestep=19,
    attention=AttentionSettings.model_validate({"pattern": "window", "window": [4, 4]}),
    transformer={
        "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 192, "out_channels": 192,
        "time_embed_dim": 16, "text_embed_dim": 8, "num_layers": 2, "patch_size": 2, "patch_size_t": 2,
        "max_text_seq_length": 1, "temporal_compression_ratio": 1, "use_rotary_positional_embeddings": True,
    },
    vae={"channels": 48, "num_blocks": 1},
    scheduler={
        "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True, "snr_shift_scale": 1.0,
        "prediction_type": "v_prediction",
    },
)  # fmt: skip


def make_model(view_tokens: int = 64) -> OneStepModel:
    """A model whose decoder gives, on flat areas, what the latents show."""
    model = OneStepModel(MODEL.model_copy(update={"view": ViewSettings(tokens=view_tokens)}))
    vae: Any = model.vae
    with torch.no_grad():
        # Its activation is all but the identity far above 0.
        for conv, bias in ((vae.conv_in, 20.0), (vae.conv_mid, 0.0), (vae.conv_out, -20.0)):
            conv.weight.zero_()
            conv.bias.fill_(bias)
        index = torch.arange(48)
        vae.conv_in.weight[index, index, 1, 1] = 1
        # Of three LR frames the middle one, of the channel's colour.
        vae.conv_in.weight[index, 48 + 3 + index // 16, 1, 1] = -1
        vae.conv_out.weight[index, index, 1, 1] = 1
    return model


def train(
    model: OneStepModel, *, steps: int, frame: tuple[int, int], tile: int, batch_size: int, rate: float
) -> float:
    """Trains the transformer on tiles of random riddles, every other step without the view.

    Args:
        model: Changed in place.
        steps: Of Adam.
        frame: Height and width of frames, pixels of the output.
        tile: Side of a tile, tokens.
        batch_size: Tiles of a step, each of a frame of its own.
        rate: At first; falls to 0.

    Returns:
        Mean error of the last steps with the view, code values.
    """
    tokens = frame[0] / TOKEN, frame[1] / TOKEN
    assert model.config.view is not None
    small = view_size(frame, tokens=model.config.view.tokens, alignment=TOKEN)
    optimizer = torch.optim.Adam(model.transformer.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    errors = []
    for step in range(steps):
        riddles = Riddles.draw(batch_size, tokens)
        origins = riddles.tiles(tokens, tile)
        lq_token = TOKEN // SCALE
        rows, cols = (
            middles(origins[:, axis] * lq_token, tile * lq_token, frame[axis] / SCALE) for axis in (0, 1)
        )
        latents, target = (
            model.vae.encode(upsample(riddles.paint(rows, cols, is_solved=is_solved)[0], SCALE)).transpose(
                1, 2
            )
            for is_solved in (False, True)
        )
        view = None
        if step % 2:
            zero = torch.zeros(batch_size)
            whole, _ = riddles.paint(*(middles(zero, side, side) for side in small))
            frames = model.vae.encode(whole).transpose(1, 2)
            view = FrameView.of(model.transformer, frames, model.prompt_embeds, frame=tokens).for_tiles(
                origins
            )
        restored = one_step(
            model.transformer,
            model.scheduler,
            latents,
            model.prompt_embeds,
            timestep=MODEL.timestep,
            view=view,
        )
        difference = restored - target
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(difference.square().mean())
        torch.nn.utils.clip_grad_norm_(model.transformer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if view is not None:
            errors.append(float(difference.detach().abs().mean()) * 127.5)
    return sum(errors[-10:]) / len(errors[-10:])


@dataclass(frozen=True)
class TileScores:
    """How tiles of a frame agree.

    Attributes:
        tone_drift: Largest difference of tone on the grey between tiles, code values.
        largest_tone_error: Largest error of a tile's tone on the grey, code values.
        seam_ratio: Of their borders.
        processor_seconds: Of the frame.
    """

    tone_drift: float
    largest_tone_error: float
    seam_ratio: float
    processor_seconds: float


def measure(
    pipeline: DovePipeline, riddle: Riddles, frame: tuple[int, int], *, tile: int, overlap: int
) -> dict[str, TileScores]:
    """Scores of one frame with the view and by fusion alone.

    Args:
        pipeline: With a view.
        riddle: One.
        frame: Height and width, pixels of the output; whole tokens.
        tile: Side of a tile, pixels.
        overlap: Of tiles, pixels.
    """
    small = frame[0] // SCALE, frame[1] // SCALE
    lq, is_mark = riddle.paint(*(middles(torch.zeros(1), side, side) for side in small))
    source = (upsample(lq, SCALE)[0, :, 0] + 1) / 2
    # The interpolation blurs the mark's border.
    near_mark = F.max_pool2d(is_mark[:, None].float(), 9, stride=1, padding=4)
    is_flat = F.interpolate(near_mark, scale_factor=SCALE)[0, 0] == 0
    plan = pipeline.plan(
        ChunkRequest(
            num_frames=1, height=small[0], width=small[1], out_height=frame[0], out_width=frame[1],
            memory_bytes=1 << 36, tile=tile, overlap=overlap,
        )
    )  # fmt: skip
    grid = plan.tile_grid(*frame, multiple=TOKEN)
    rows, cols = (
        [(one.stop + two.start) // 2 for one, two in pairwise(axis)] for axis in (grid.rows, grid.cols)
    )
    restorer, shape = pipeline.restorer, pipeline.restorer.model_shape
    scores = {}
    for name, view_tokens in (("with the view", shape.view_tokens), ("tiles alone", 0)):
        restorer.model_shape = replace(shape, view_tokens=view_tokens)
        start = time.process_time()
        output = pipeline(
            (lq[:, :, 0] + 1) / 2, height=frame[0], width=frame[1], options=UNMATCHED, plan=plan
        ).frames[0]
        seconds = time.process_time() - start
        tones = tile_tones(output, source, grid, is_flat)
        scores[name] = TileScores(
            tone_drift=tone_drift(tones),
            largest_tone_error=float((tones - float(riddle.sign) * SHIFT * 127.5).abs().max()),
            # Tokens leave a pattern of their own.
            seam_ratio=seam_ratio(output, source, rows=rows, cols=cols, period=TOKEN),
            processor_seconds=seconds,
        )
    restorer.model_shape = shape
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    wanted = parser.parse_args()
    torch.manual_seed(0)
    model, start = make_model(), time.process_time()
    error = train(model, steps=wanted.steps, frame=FRAME, tile=4, batch_size=16, rate=3e-3)
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder), card={"training_steps": wanted.steps}, dtype=torch.float32)
        pipeline = DovePipeline.from_checkpoint(folder)
    scores = {
        name: {
            way: asdict(found)
            for way, found in measure(pipeline, riddle, FRAME, tile=TILE, overlap=OVERLAP).items()
        }
        for name, riddle in RIDDLES.items()
    }
    write_results(
        "tile_view",
        {
            "frame": FRAME, "tile": TILE, "overlap": OVERLAP, "shift_code_values": SHIFT * 127.5,
            "training": {"steps": wanted.steps, "processor_seconds": seconds, "error": error},
            "scores": scores,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
