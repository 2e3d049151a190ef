"""Models that `dovetail evaluate` scores beside interpolation, in one process or several."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from pipelines.devices import DtypeName
    from pipelines.model import Model
    from training.evaluation import Score, Upscale

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """What is scored on every clip.

    Attributes:
        names: Of the models, as `--model` takes them; None is the embedded one.
        models_dir: Where pulled models are.
        device: For the models.
        dtype: For the models.
        recipes: Which ones.
        max_frames: Frames of a clip that are used.
        use_one_frame: Whether models that look at neighbours are also given every frame alone.
        pictures: Folder for side-by-side pictures.
    """

    names: tuple[str | None, ...]
    models_dir: Path
    device: str
    dtype: DtypeName
    recipes: tuple[str, ...]
    max_frames: int
    use_one_frame: bool
    pictures: Path | None


@contextmanager
def mapping(processes: int) -> Iterator[Callable[[Callable[[S], T], Iterable[S]], Iterator[T]]]:
    """Gives `map` over clips: in this process, or in several at once that share its cores. Results in order.

    Args:
        processes: How many.

    Raises:
        OutOfMemoryError: If one of several is killed.
    """
    if processes == 1:
        yield map
        return
    from pipelines.errors import OutOfMemoryError
    from pipelines.planning.host import usable_cpus

    context, threads = multiprocessing.get_context("spawn"), max(1, usable_cpus() // processes)
    try:
        with ProcessPoolExecutor(
            processes, mp_context=context, initializer=_begin_process, initargs=(threads,)
        ) as pool:
            yield pool.map
    except BrokenProcessPool as error:
        raise OutOfMemoryError(
            f"one of {processes} processes that scored clips was killed, as the system does where memory "
            "runs out: each loads all models; give fewer --processes, or fewer frames by --max-frames"
        ) from error


def describe(comparison: Comparison) -> dict[str, Any]:
    """What a report says of the models.

    Raises:
        UsageError: If they have different factors.
    """
    models = _load_models(comparison)
    return {
        "models": [{"name": model.name, **model.identity()} for model in models],
        "scale": common_scale(models),
        "max_frames": comparison.max_frames,
    }


def score_clip(comparison: Comparison, path: Path) -> list[Score]:
    """Scores of every method with every recipe."""
    from pipelines.interpolation import METHODS
    from pipelines.loaders import load_model
    from training.evaluation import evaluate_clip

    models = _load_models(comparison)
    entries = {entry.name: entry for entry in (*map(load_model, METHODS), *models)}
    scores = evaluate_clip(
        path,
        make_methods(list(entries.values()), use_one_frame=comparison.use_one_frame),
        scale=common_scale(models),
        max_frames=comparison.max_frames,
        recipes=comparison.recipes,
        pictures=comparison.pictures,
    )
    return list(scores)


@lru_cache(maxsize=1)
def _load_models(comparison: Comparison) -> tuple[Model, ...]:
    """Once in a process, however many clips it scores."""
    from pipelines.freed_memory import keep_freed_memory
    from pipelines.loaders import load_model

    keep_freed_memory()
    load = partial(
        load_model, device=comparison.device, dtype=comparison.dtype, models_dir=comparison.models_dir
    )
    return tuple(load(name) for name in comparison.names)


def _begin_process(num_threads: int) -> None:
    """In each of several processes; ends it where the command is killed, which nobody else would tell it."""
    import torch

    torch.set_num_threads(min(num_threads, torch.get_num_threads()))
    command = multiprocessing.parent_process()
    assert command is not None
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def common_scale(models: Sequence[Model]) -> int:
    """The factor of models that get the same input; interpolation takes that of the others.

    Raises:
        UsageError: If they have different ones.
    """
    networks = [model for model in models if model.card.kind != "interpolation"]
    scales = {model.name: model.card.scale for model in networks or models}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{name} x{scale}" for name, scale in scales.items())
        raise UsageError(f"models of one factor can be compared, these have several: {listed}")
    return next(iter(scales.values()))


def make_methods(models: Sequence[Model], *, use_one_frame: bool) -> dict[str, Upscale]:
    """What is scored, by name; kinds that look at one frame anyway are not scored twice."""
    methods: dict[str, Upscale] = {}
    for model in models:
        methods[model.name] = frames_of(model)
        if use_one_frame and model.card.kind not in ("interpolation", "per_frame"):
            methods[f"{model.name}, one frame"] = one_frame(methods[model.name])
    return methods


def frames_of(model: Model) -> Upscale:
    """A model as a function from LQ frames to frames of the target size."""
    from pipelines.clips import restore_clip

    def upscale(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return restore_clip(model, lq, (height, width))

    return upscale


def one_frame(upscale: Upscale) -> Upscale:
    """Gives every frame alone: what is lost is what neighbours bring."""

    def upscale_alone(lq: torch.Tensor, height: int, width: int) -> torch.Tensor:
        import torch

        return torch.cat([upscale(frame[None], height, width) for frame in lq])

    return upscale_alone
