"""What attention patterns and options of training do to quality: a checkpoint, fine-tuned into each.

    python -m benchmarks.attention_quality CHECKPOINT DATA RUNS [--config configs/dit-nano.yaml]
        [--steps 200] [--patterns window ...] [--max-frames 5]

Every run starts from CHECKPOINT, sees the same batches of three frames for as many steps and has OASIS's two
phases: degradations that are steady in time, then drifting. `own` keeps the checkpoint's pattern (windows in
one frame), and STAR's options are trained under it. Routed tables are made by calibration of what `full` has
become, on clips that are trained on; that one is scored with half of its pairs as well, not trained any
further. Scores are those of `dovetail evaluate` on the held-out videos of the configuration, all in one run,
beside the checkpoint itself, and `own` without its transformer: what attention can bring. RUNS keeps what is
done: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import av
import torch
import yaml
from av.video.reformatter import VideoReformatter

from benchmarks.results_file import write_results
from cli.compared_models import frames_of
from pipelines.dove.attention.calibration import routes_within_budget
from pipelines.dove.pipeline import DovePipeline
from pipelines.loaders import load_model
from training.config import TrainingConfig, load_config
from training.data import ensure_block, one_step_maker
from training.degradation import to_uint8
from training.evaluation import Score, Upscale, evaluate_clip, load_hr, make_lq, summarize
from training.model import OneStepModel
from training.routing import Calibration, calibrate, write_routes
from training.run import train

LINEAR = {"pattern": "linear", "blocks": [1, 4, 4], "use_lepe": True}
PATTERNS: dict[str, Any] = {
    "own": None,
    "full": "full",
    "window": {"pattern": "window", "window": [8, 8]},
    "window+global": {"pattern": "window+global", "window": [8, 8], "pool": 4},
    "sparse": {"pattern": "sparse", "window": [1, 8, 8], "num_similar": 1},
    "routed 75 %": 0.75,
    "routed 50 %": 0.5,
    "routed 25 %": 0.25,
    "linear": LINEAR,
    "hybrid": ["full", LINEAR, LINEAR],
    "own, local enhancement": None,
    "own, frequency loss": None,
}
# Beside the pattern: of the model, and of its stages.
MODEL_OPTIONS: dict[str, dict[str, Any]] = {"own, local enhancement": {"local_enhancement": True}}
STAGE_OPTIONS: dict[str, dict[str, Any]] = {"own, frequency loss": {"frequency_weight": 1.0}}
UNTRAINED_BUDGET = 0.5
# What the routes are measured on: enough for their order, and they are trained on.
MAX_CALIBRATION_CLIPS = 4
CALIBRATION_FRAMES = 6
CALIBRATION_SIZE = (256, 384)
# All that a sample has, so that patterns over time see some.
NUM_FRAMES = 3
WARMUP_STEPS = 5
SCALE = 4
# One for each phase, and two that the pool makes ahead.
_NUM_BLOCKS = 4


def attention_of(wanted: Any, config: TrainingConfig, full: Path, clips: list[Path]) -> Any:
    """A pattern's settings; a number is the share of pairs that routed heads are left with."""
    if wanted is None:
        return config.model_dump(mode="json")["model"]["attention"]
    if not isinstance(wanted, float):
        return wanted
    made = calibration(full, clips, budget=wanted)
    return {"pattern": "routed", "heads": made.heads, "window": made.window, "tile": made.tile}


def calibration(checkpoint: Path, clips: list[Path], *, budget: float) -> Calibration:
    """The routes that leave a checkpoint's heads a share of the pairs."""
    pipeline = DovePipeline.from_checkpoint(checkpoint, use_lossless_savings=False)
    with tempfile.TemporaryDirectory() as folder:
        uploads = [write_upload(clip, Path(folder) / f"{clip.stem}.mkv") for clip in clips]
        return calibrate(pipeline, uploads, assign=partial(routes_within_budget, budget=budget))


def route_untrained(checkpoint: Path, folder: Path, clips: list[Path]) -> Path:
    """The checkpoint with a table of routes, as `dovetail calibrate` makes it; its folder."""
    if not folder.exists():
        made = calibration(checkpoint, clips, budget=UNTRAINED_BUDGET)
        shutil.copytree(checkpoint, folder)
        write_routes(folder, made)
    return folder


def write_upload(clip: Path, destination: Path) -> Path:
    """The middle of a clip's first frames, degraded as an upload, losslessly coded."""
    hr = load_hr(clip, scale=SCALE, max_frames=CALIBRATION_FRAMES)
    y, x = ((side - kept) // 2 for side, kept in zip(hr.shape[-2:], CALIBRATION_SIZE, strict=True))
    lq = make_lq(hr[..., y : y + CALIBRATION_SIZE[0], x : x + CALIBRATION_SIZE[1]], "real", SCALE)
    with av.open(str(destination), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = lq.shape[-2:]
        stream.pix_fmt = "bgr0"  # FFV1's R'G'B' of 8 bits
        repack = VideoReformatter()
        for frame in to_uint8(lq):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(repack.reformat(picture, format="bgr0", threads=1)))
        container.mux(stream.encode(None))
    return destination


def tuned_config(config: TrainingConfig, name: str, attention: Any, steps: int) -> dict[str, Any]:
    """The configuration of one run: half of its steps on steady degradations, half on drifting ones."""
    content = config.model_dump(mode="json")
    last = content["stages"][-1] | STAGE_OPTIONS.get(name, {})
    phases = [
        last
        | {
            "name": phase,
            "steps": steps // 2,
            "schedule": schedule,
            "warmup_steps": WARMUP_STEPS,
            "num_frames": NUM_FRAMES,
            "degradations": {phase: 0.5, "upload": 0.5},
        }
        for phase, schedule in (("steady", "constant"), ("drifting", "cosine"))
    ]
    # Each phase has a block of its own, in which no sample is seen twice.
    half = steps // 2
    data = content["data"] | {"steps_per_block": half, "block_size": half * last["batch_size"]}
    model = content["model"] | {"name": f"{config.model.name}, {name}", "attention": attention}
    model |= MODEL_OPTIONS.get(name, {})
    parts = ["transformer", "vae"]
    return content | {
        "data": data,
        "model": model,
        "stages": phases,
        "validation": None,
        "start_parts": parts,
    }


def fill_pool(content: dict[str, Any], data: Path, pool: Path) -> None:
    """The samples of a run, which are those of every other: made once, with those that a pool makes ahead."""
    config = TrainingConfig.model_validate(content)
    pool.mkdir(parents=True, exist_ok=True)
    make_block = one_step_maker(config, data)
    for index in range(_NUM_BLOCKS):
        ensure_block(make_block, pool, index)


def tune(
    config: TrainingConfig,
    name: str,
    *,
    checkpoint: Path,
    data: Path,
    runs: Path,
    steps: int,
    clips: list[Path],
) -> Path:
    """Fine-tunes into one pattern; the folder of what came out."""
    run = runs / name.replace(" ", "")
    folder = run / "checkpoint"
    if not (folder / "model_index.json").exists():
        run.mkdir(parents=True, exist_ok=True)
        path = run / "config.yaml"
        if not path.exists():
            attention = attention_of(PATTERNS[name], config, runs / "full" / "checkpoint", clips)
            content = json.loads(json.dumps(tuned_config(config, name, attention, steps)))
            pool = runs / "pool"
            fill_pool(content, data, pool)
            shutil.copytree(pool, run / "pool", dirs_exist_ok=True)
            path.write_text(yaml.safe_dump(content))
        # Blocks are compiled anew for every pattern, and no code object may be too often.
        torch.compiler.reset()
        train(path, data_dir=data, run_dir=run, start=checkpoint)
    return folder


def without_transformer(config: TrainingConfig, checkpoint: Path) -> Upscale:
    """The decoder on latents as they come in, as the trainer validates it."""
    model = OneStepModel(config.model).eval()
    model.load(checkpoint, parts=("transformer", "vae"))

    @torch.inference_mode()
    def upscale(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        frames, _ = model(lq.transpose(0, 1)[None] * 2 - 1, use_transformer=False)
        restored: torch.Tensor = (frames[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1)
        return restored[..., :height, :width]

    return upscale


def score(methods: Mapping[str, Upscale], clips: list[Path], max_frames: int) -> list[Score]:
    """All methods on all clips."""
    return [
        found for clip in clips for found in evaluate_clip(clip, methods, scale=SCALE, max_frames=max_frames)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/dit-nano.yaml"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--patterns",
        nargs="+",
        choices=PATTERNS,
        default=list(PATTERNS),
        help="own and full are among them in any case",
    )
    parser.add_argument("--max-frames", type=int, default=5)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    held_out = set(config.data.held_out)
    sources = [
        path
        for folder in (config.data.videos, config.data.images)
        for path in sorted((arguments.data / folder).glob("*"))
    ]
    videos = [
        path for path in sources if path.parent.name == config.data.videos and path.stem not in held_out
    ]
    tuned = {
        name: tune(
            config,
            name,
            checkpoint=arguments.checkpoint,
            data=arguments.data,
            runs=arguments.runs,
            steps=arguments.steps,
            clips=videos[:MAX_CALIBRATION_CLIPS],
        )
        for name in PATTERNS
        if name in ("own", "full", *arguments.patterns)
    }
    untrained = route_untrained(tuned["full"], arguments.runs / "untrained", videos[:MAX_CALIBRATION_CLIPS])
    load = partial(load_model, device="cpu", dtype="float32")
    models = {"bicubic": load_model("bicubic"), "not tuned": load(str(arguments.checkpoint))}
    models |= {name: load(str(folder)) for name, folder in tuned.items()}
    models["full, routed 50 % without training"] = load(str(untrained))
    methods = {name: frames_of(model) for name, model in models.items()}
    methods["own, without its transformer"] = without_transformer(config, tuned["own"])
    clips = [path for path in sources if path.parent.name == config.data.videos and path.stem in held_out]
    scores = score(methods, clips, arguments.max_frames)
    values = {"steps": arguments.steps, "summaries": [asdict(summary) for summary in summarize(scores)]}
    write_results("attention_quality", values)


if __name__ == "__main__":
    main()
