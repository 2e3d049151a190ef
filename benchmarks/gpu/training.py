"""(d) Training of the embedded checkpoint in slices, each going on where the last one ended.

What a slice leaves in the output folder is all that the next one needs, beside the packed data:
`training-state-N.safetensors`, small enough to travel. Weights are exact; the optimiser's moments and the
averaged weights' distance from the weights are bfloat16, which training does not notice.
"""

from __future__ import annotations

import json
import multiprocessing
import tarfile
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.gpu.kit import Kit, rounded
from training import loop
from training.batches import CropBatch
from training.config import DataConfig, StageConfig, TrainingConfig, load_config
from training.data import Block, SamplePool, SourceLibrary, block_path, make_block
from training.trainer import Trainer

NAME = "training"
STATE = "training-state"
# Some ways of bringing files home take none above 16 MiB.
MAX_PART_BYTES = 15_000_000
MAX_LOGGED = 200
# Saving the state and leaving.
SECONDS_TO_END = 30
# One process makes a block in half a minute; a GPU uses it up in less.
NUM_MAKERS = 6


class SliceEndedError(Exception):
    """Raised when the time of a slice is over."""


class SlicedTrainer(Trainer):
    """A trainer that stops between two steps when its time is over.

    Args:
        deadline: Moment of `time.monotonic`.
        **arguments: As for `Trainer`.
    """

    def __init__(self, *, deadline: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.deadline = deadline

    def train_step(self, batch: CropBatch) -> dict[str, float]:
        """See `TrainingLoop.train_step`.

        Raises:
            SliceEndedError: If there is no time for another step.
        """
        if time.monotonic() > self.deadline:
            raise SliceEndedError
        return super().train_step(batch)


class SlicedPool(SamplePool):
    """A pool that does not wait for a block beyond the deadline.

    Args:
        deadline: Moment of `time.monotonic`.
        *arguments: As for `SamplePool`, like the rest.
    """

    def __init__(self, deadline: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.deadline = deadline

    def get(self, index: int) -> dict[str, np.ndarray]:
        """See `SamplePool.get`.

        Raises:
            SliceEndedError: If the block is not there in time.
        """
        while not block_path(self._dir, index).exists() and self._process.is_alive():
            if time.monotonic() > self.deadline:
                raise SliceEndedError
            time.sleep(0.1)
        return super().get(index)


def answer(kit: Kit, *, pack: Path, config_path: Path) -> bool:
    """Trains until the deadline or the end.

    Args:
        kit: Where and how long.
        pack: File of `benchmarks.gpu.pack`.
        config_path: Of the run.

    Returns:
        Whether the run is at its end.
    """
    before = kit.load(NAME)
    if before.get("is_complete"):
        return True
    if not pack.is_file():
        print(f"no training: {pack} is not here; make it with python -m benchmarks.gpu.pack", flush=True)
        return False
    with tempfile.TemporaryDirectory(prefix="dovetail-training-") as name:
        folder = Path(name)
        with tarfile.open(pack) as archive:
            archive.extractall(folder / "data", filter="data")
        config = load_config(config_path)
        config = _tiny(config) if kit.is_tiny else config
        return _train_slice(kit, config, folder, before)


def _train_slice(kit: Kit, config: TrainingConfig, folder: Path, before: dict[str, Any]) -> bool:
    run_dir = folder / "run"
    run_dir.mkdir()
    _restore_state(kit, run_dir)
    start, deadline = time.monotonic(), kit.deadline - SECONDS_TO_END
    data_dir = folder / "data"
    trainer = SlicedTrainer(
        deadline=deadline, config=config, data_dir=data_dir, run_dir=run_dir, device=str(kit.device)
    )
    makers = _start_makers(
        config, data_dir, run_dir, num_makers=0 if kit.device.type == "cpu" else NUM_MAKERS
    )
    is_complete = False
    try:
        trainer.prepare()
        with mock.patch.object(loop, "SamplePool", partial(SlicedPool, deadline)):
            trainer.run()
        is_complete = True
    except SliceEndedError:
        trainer.save_state()
    finally:
        for maker in makers:
            maker.terminate()
            maker.join()
    log = [*before.get("log", []), *_read_log(run_dir / "log.jsonl")]
    slices = [
        *before.get("slices", []),
        {"end_step": trainer.step, "seconds": rounded(time.monotonic() - start)},
    ]
    _save_state(kit, run_dir / loop.STATE_NAME)
    if is_complete:
        _export(kit, trainer)
    values = {
        "is_complete": is_complete,
        "step": trainer.step,
        "total_steps": trainer.last_step,
        "slices": slices,
        "log": log[:: max(len(log) // MAX_LOGGED, 1)],
    }
    kit.save(NAME, values)
    print(f"step {trainer.step} of {trainer.last_step}", flush=True)
    return is_complete


def _export(kit: Kit, trainer: Trainer) -> None:
    """Writes the checkpoint as one file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / trainer.config.model.name
        trainer.ema.save(folder, card=trainer.card())
        with tarfile.open(kit.output / f"{folder.name}.tar", "w") as archive:
            archive.add(folder, folder.name)


def _start_makers(
    config: TrainingConfig, data_dir: Path, run_dir: Path, *, num_makers: int
) -> list[multiprocessing.process.BaseProcess]:
    """Processes that make blocks beside the pool's own one."""
    context = multiprocessing.get_context("spawn")
    makers: list[multiprocessing.process.BaseProcess] = [
        context.Process(
            target=_make_blocks, args=(config, data_dir, run_dir, number, num_makers), daemon=True
        )
        for number in range(num_makers)
    ]
    for maker in makers:
        maker.start()
    return makers


def _make_blocks(config: TrainingConfig, data_dir: Path, run_dir: Path, number: int, num_makers: int) -> None:
    torch.set_num_threads(1)
    library = SourceLibrary(data_dir, config.data)
    pool = run_dir / "pool"
    state = run_dir / loop.STATE_NAME
    step = torch.load(state, weights_only=True, map_location="cpu")["step"] if state.exists() else 0
    index = step // config.data.steps_per_block + 1 + number
    while True:
        oldest = min((int(path.stem.split("-")[1]) for path in pool.glob("block-*.npz")), default=index)
        path = block_path(pool, index)
        if index - oldest > 2 * num_makers:
            time.sleep(0.5)
            continue
        if not path.exists():
            _write_block(path, make_block(config, library, index))
        index += num_makers


def _write_block(path: Path, block: Block) -> None:
    # Not the pool's own name for unfinished files: both may be at the same block.
    partial = path.with_suffix(".made")
    with partial.open("wb") as file:
        np.savez(file, hr=block.hr, lq=block.lq)
    partial.rename(path)


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _save_state(kit: Kit, path: Path) -> None:
    state = torch.load(path, weights_only=True, map_location="cpu")
    weights, averaged = state["network"], state["ema"]
    packed: dict[str, Tensor] = {f"network/{name}": value for name, value in weights.items()}
    packed |= {f"ema/{name}": (value - weights[name]).bfloat16() for name, value in averaged.items()}
    optimizers = {
        name: part for name, part in state.items() if isinstance(part, dict) and "param_groups" in part
    }
    for optimizer, part in optimizers.items():
        for number, moments in part["state"].items():
            for name, value in moments.items():
                packed[f"moment/{optimizer}/{number}/{name}"] = value.bfloat16() if value.ndim else value
    groups = json.dumps(
        {name: state[name] for name in ("step", "warm_from", "decay")}
        | {"groups": {name: part["param_groups"] for name, part in optimizers.items()}}
    )
    kit.output.mkdir(parents=True, exist_ok=True)
    for old in kit.output.glob(f"{STATE}-*.safetensors"):
        old.unlink()
    for number, part in enumerate(_parts(packed)):
        tensors = {name: value.contiguous() for name, value in part.items()}
        save_file(tensors, kit.output / f"{STATE}-{number}.safetensors", metadata={"state": groups})


def _parts(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        size += value.numel() * value.element_size()
        if parts[-1] and size > MAX_PART_BYTES:
            parts.append({})
            size = value.numel() * value.element_size()
        parts[-1][name] = value
    return parts


def _restore_state(kit: Kit, run_dir: Path) -> None:
    folders = [folder for folder in (kit.output, kit.previous) if folder is not None]
    paths = next((found for folder in folders if (found := sorted(folder.glob(f"{STATE}-*")))), [])
    if not paths:
        return
    with safe_open(paths[0], framework="pt") as file:
        described = json.loads(file.metadata()["state"])
    tensors = {name: value for path in paths for name, value in load_file(path).items()}
    network = {key.partition("/")[2]: value for key, value in tensors.items() if key.startswith("network/")}
    optimizers: dict[str, Any] = {
        name: {"state": {}, "param_groups": groups} for name, groups in described["groups"].items()
    }
    for key, value in tensors.items():
        if key.startswith("moment/"):
            _, optimizer, number, name = key.split("/")
            optimizers[optimizer]["state"].setdefault(int(number), {})[name] = value.float()
    state = {
        **{name: described[name] for name in ("step", "warm_from", "decay")},
        "network": network,
        "ema": {name: value + tensors[f"ema/{name}"].to(value.dtype) for name, value in network.items()},
        **optimizers,
    }
    torch.save(state, run_dir / loop.STATE_NAME)


def _tiny(config: TrainingConfig) -> TrainingConfig:
    """A few steps of the same run, on the CPU."""
    stage = config.stages[0].model_dump() | {"steps": 6, "batch_size": 1, "lq_size": 16, "num_frames": 2}
    data = config.data.model_dump() | {"hr_size": 64, "num_frames": 2, "block_size": 2, "steps_per_block": 4}
    update = {
        "stages": (StageConfig.model_validate(stage),),
        "data": DataConfig.model_validate(data),
        "log_every": 2,
        "save_every": 4,
        "dtype": "float32",
    }
    return config.model_copy(update=update)
