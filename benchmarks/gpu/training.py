"""(d) Training of the embedded model, dovetail-nano 2, in slices, each going on where the last one ended.

What a slice leaves in the output folder is all that the next one needs, beside the packed data:
`training-state.pt` (5 MB, exact). A decay of the learning rate ends the run with a checkpoint to ship.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.kit import ROOT, Kit, rounded
from training.config import read_yaml, validate_config
from training.data import SamplePool, block_path, ensure_block
from training.loop import RAW_NAME, STATE_NAME
from training.restoration.config import RestorationConfig, RestorationStage
from training.restoration.samples import Batch, restoration_maker
from training.restoration.trainer import RestorationTrainer
from training.run import CHECKPOINT_NAME, save_checkpoint

NAME = "training"
STATE = "training-state.pt"
CONFIG = ROOT / "configs" / "nano2.yaml"
RAW = ROOT / "configs" / "nano2-raw"
MAX_LOGGED = 200
# Saving the state and leaving.
SECONDS_TO_END = 30


class SliceEndedError(Exception):
    """Raised when the time of a slice is over."""


class SlicedPool(SamplePool):
    """A pool that does not wait for a block beyond the deadline.

    Args:
        *arguments: As for `SamplePool`, like the rest.
        deadline: Moment of `time.monotonic`.
    """

    def __init__(self, *arguments: Any, deadline: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline = deadline

    def get(self, index: int) -> dict[str, Any]:
        """See `SamplePool.get`.

        Raises:
            SliceEndedError: If the block is not there in time.
        """
        while not block_path(self._dir, index).exists() and self._process.is_alive():
            if time.monotonic() > self._deadline:
                raise SliceEndedError
            time.sleep(0.1)
        return super().get(index)


class SlicedTrainer(RestorationTrainer):
    """A trainer that stops between two steps when its time is over.

    Args:
        deadline: Moment of `time.monotonic`.
        **arguments: As for `RestorationTrainer`.
    """

    def __init__(self, *, deadline: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._deadline = deadline

    def _open_pool(self, first_block: int) -> SlicedPool:
        return SlicedPool(
            self._block_maker(), self.run_dir / "pool", first_block=first_block, deadline=self._deadline
        )

    def train_step(self, batch: Batch) -> dict[str, float]:
        """See `TrainingLoop.train_step`.

        Raises:
            SliceEndedError: If there is no time for another step.
        """
        if time.monotonic() > self._deadline:
            raise SliceEndedError
        return super().train_step(batch)


def answer(kit: Kit, *, pack: Path, decay_steps: int | None = None) -> bool:
    """Trains until the deadline or the end.

    Args:
        kit: Where and how long.
        pack: File of `benchmarks.gpu.pack`.
        decay_steps: Let the learning rate fall to zero over so many steps from here, in as many slices as it
            takes; a decay that was begun goes on by itself.

    Returns:
        Whether the run is at its end.
    """
    before = kit.load(NAME)
    if before.get("is_complete"):
        return True
    if not pack.is_file():
        print(f"no training: {pack} is not here; make it with python -m benchmarks.gpu.pack", flush=True)
        return False
    config = validate_config(RestorationConfig, read_yaml(CONFIG), CONFIG)
    if kit.is_tiny:
        config, decay_steps = _tiny(config), 6
    with tempfile.TemporaryDirectory(prefix="dovetail-training-") as name:
        folder = Path(name)
        unpack(pack, folder / "data")
        trainer = SlicedTrainer(
            deadline=kit.deadline - SECONDS_TO_END,
            config=config,
            data_dir=folder / "data",
            run_dir=folder / "run",
            device=str(kit.device),
        )
        prepare(trainer, _found_state(kit), decay_steps)
        return _train_slice(kit, trainer, before)


def unpack(pack: Path, data_dir: Path) -> None:
    """Writes the files of a pack, each below its own folder alone; Python 3.11.2 has no filters for that."""
    with tarfile.open(pack) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            *_, folder, name = Path(member.name).parts
            (data_dir / folder).mkdir(parents=True, exist_ok=True)
            with content, (data_dir / folder / name).open("wb") as file:
                shutil.copyfileobj(content, file)


def prepare(trainer: RestorationTrainer, state: Path | None, decay_steps: int | None) -> None:
    """Takes up the last slice's state, or else the committed raw weights.

    Args:
        trainer: Has no state of its own yet.
        state: Of the last slice.
        decay_steps: As for `answer`.
    """
    if state is None:
        trainer.prepare(start=RAW, decay_steps=decay_steps)
        return
    shutil.copy(state, trainer.run_dir / STATE_NAME)
    trainer.prepare()
    if trainer.decay is None and decay_steps is not None:
        trainer.decay = (trainer.step, trainer.step + decay_steps)


def _found_state(kit: Kit) -> Path | None:
    folders = [folder for folder in (kit.output, kit.previous) if folder is not None]
    return next((folder / STATE for folder in folders if (folder / STATE).is_file()), None)


def _train_slice(kit: Kit, trainer: SlicedTrainer, before: dict[str, Any]) -> bool:
    start = time.monotonic()
    kit.output.mkdir(parents=True, exist_ok=True)
    is_complete = False
    num_makers = 0 if kit.device.type == "cpu" else max((os.cpu_count() or 1) - 2, 1)
    with _makers(trainer, num_makers):
        try:
            trainer.run()
            is_complete = True
        except SliceEndedError:
            trainer.save_state()
    shutil.copy(trainer.run_dir / STATE_NAME, kit.output / STATE)
    if is_complete:
        save_checkpoint(trainer, kit.output / CHECKPOINT_NAME)
        shutil.copytree(trainer.run_dir / RAW_NAME, kit.output / RAW_NAME, dirs_exist_ok=True)
    log, validation = (_read_lines(trainer.run_dir / f"{name}.jsonl") for name in ("log", "validation"))
    log = [*before.get("log", []), *log]
    values = {
        "is_complete": is_complete,
        "step": trainer.step,
        "last_step": trainer.last_step,
        "slices": [
            *before.get("slices", []),
            {"end_step": trainer.step, "seconds": rounded(time.monotonic() - start)},
        ],
        "validation": [*before.get("validation", []), *({**line, "clips": None} for line in validation)],
        "log": log[:: max(len(log) // MAX_LOGGED, 1)],
    }
    kit.save(NAME, values)
    print(f"step {trainer.step} of {trainer.last_step}", flush=True)
    return is_complete


@contextmanager
def _makers(trainer: RestorationTrainer, number: int) -> Iterator[None]:
    """Processes that make blocks beside the pool's own one: a GPU uses them up faster."""
    context = multiprocessing.get_context("spawn")
    first = trainer.step // trainer.config.data.steps_per_block + 1
    arguments = (trainer.config, trainer.data_dir, trainer.run_dir / "pool", first)
    makers = [
        context.Process(target=_make_blocks, args=(*arguments, place, number), daemon=True)
        for place in range(number)
    ]
    for maker in makers:
        maker.start()
    try:
        yield
    finally:
        for maker in makers:
            maker.terminate()
            maker.join()


def _make_blocks(
    config: RestorationConfig, data_dir: Path, pool: Path, first: int, place: int, number: int
) -> None:
    torch.set_num_threads(1)
    pool.mkdir(parents=True, exist_ok=True)
    make_block = restoration_maker(config, data_dir)
    index = first + place
    while True:
        oldest = min((int(path.stem.split("-")[1]) for path in pool.glob("block-*.npz")), default=index)
        if index - oldest > 2 * number:
            time.sleep(0.5)
            continue
        ensure_block(make_block, pool, index)
        index += number


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _tiny(config: RestorationConfig) -> RestorationConfig:
    """A few steps of the same run, on the CPU."""
    stage = config.stages[0].model_dump() | {"batch_frames": 1, "body_size": 16}
    data = config.data.model_dump() | {"hr_size": 96, "block_size": 2, "steps_per_block": 4}
    update = {
        "stages": (RestorationStage.model_validate(stage),),
        "data": type(config.data).model_validate(data),
        "validation": None,
        "log_every": 2,
        "save_every": 4,
        "dtype": "float32",
    }
    return config.model_copy(update=update)
