"""The models of a worker: loaded when first needed, the last one kept, described to the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from jobs.fleet import ModelInfo
from pipelines.errors import CheckpointError
from pipelines.model import Model
from pipelines.planning.frame_plan import FrameShape
from pipelines.planning.kinds import shape_to_json
from pipelines.standin import STANDIN_PREFIX


class ModelUnavailableError(CheckpointError):
    """Raised when a job names a model that this worker does not offer."""

    code = "model_unavailable"


class ModelShelf:
    """Loads models by name and keeps the last one, for two large ones seldom fit a device.

    Args:
        sources: What jobs call each model, and what `load` calls it; the first is the default. None for a
            worker that makes no segments.
        load: Loads a model.
        allow_standins: Whether jobs may name stand-ins as well.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        *,
        load: Callable[[str], Model],
        allow_standins: bool = False,
    ) -> None:
        self.names, self._sources = tuple(sources), dict(sources)
        self._load, self._allow_standins = load, allow_standins
        self._kept: Model | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """Names of the models whose tasks this worker does."""
        return (*self.names, STANDIN_PREFIX) if self._allow_standins else self.names

    @property
    def device(self) -> torch.device:
        """Of the models, the CPU where there are none.

        Raises:
            PipelineError: If one cannot be loaded.
        """
        return self.get().device if self.names else torch.device("cpu")

    def get(self, name: str | None = None) -> Model:
        """The model of a name, or the default.

        Raises:
            ModelUnavailableError: If this worker does not offer it.
            PipelineError: If it cannot be loaded.
        """
        name = name or self.names[0]
        is_standin = name.startswith(STANDIN_PREFIX) and self._allow_standins
        if name not in self.names and not is_standin:
            raise ModelUnavailableError(
                f"no worker of this kind has the model {name!r}; there are {', '.join(self.names)}"
            )
        if self._kept is None or self._kept.name != name:
            self._kept = None  # its memory is needed for the next one
            self._kept = self._load(self._sources.get(name, name))
            if self._kept.name != name:
                self._kept.card = replace(self._kept.card, name=name)
        return self._kept

    def describe(self) -> list[ModelInfo]:
        """Loads each model once, the default last, so that it is ready for the first task.

        Raises:
            PipelineError: If one cannot be loaded.
        """
        found = [self._describe(name, self.get(name)) for name in reversed(self.names)]
        if self._allow_standins:
            found.append(
                ModelInfo(
                    name=STANDIN_PREFIX,
                    kind="standin",
                    scale=4,
                    is_listed=False,
                    shape=shape_to_json(FrameShape()),
                )
            )
        return found

    def _describe(self, name: str, model: Model) -> ModelInfo:
        card = model.card
        return ModelInfo(
            name=name,
            kind=card.kind,
            scale=card.scale,
            licence=card.licence,
            source=card.source,
            is_default=name == self.names[0],
            is_listed=card.kind != "standin",
            shape=shape_to_json(model.shape),
            device=model.device.type,
            memory_bytes=model.free_memory(),
        )
