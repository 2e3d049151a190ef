"""(d) Training of the embedded model, dovetail-nano 2, in slices, each going on where the last one ended.

What a slice leaves in the output folder is all that the next one needs, beside the packed data:
`training-state.pt` (5 MB, exact). A decay of the learning rate ends the run with a checkpoint to ship.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.kit import ROOT, Kit, rounded
from pipelines.planning.host import usable_cpus
from training.data import SamplePool
from training.loop import RAW_NAME, STATE_NAME
from training.restoration.config import RestorationConfig, RestorationStage
from training.restoration.samples import Batch
from training.restoration.trainer import RestorationTrainer
from training.run import CHECKPOINT_NAME, save_checkpoint
from training.yaml_files import read_yaml, validate_config

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

    def _wait(self) -> None:
        if time.monotonic() > self._deadline:
            raise SliceEndedError
        super()._wait()


class SlicedTrainer(RestorationTrainer):
    """A trainer that stops between two steps when its time is over.

    Args:
        deadline: Moment of `time.monotonic`.
        num_producers: Processes that degrade samples.
        **arguments: As for `RestorationTrainer`.
    """

    def __init__(self, *, deadline: float, num_producers: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._deadline, self._num_producers = deadline, num_producers

    def _open_pool(self, first_block: int) -> SlicedPool:
        return SlicedPool(
            self._block_maker(),
            self.run_dir / "pool",
            first_block=first_block,
            num_processes=self._num_producers,
            deadline=self._deadline,
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
            # A GPU uses blocks up faster than one process makes them.
            num_producers=1 if kit.device.type == "cpu" else max(usable_cpus() - 2, 1),
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
        "validation": [*before.get("validation", []), *validation],
        "log": log[:: max(len(log) // MAX_LOGGED, 1)],
    }
    kit.save(NAME, values)
    print(f"step {trainer.step} of {trainer.last_step}", flush=True)
    return is_complete


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
