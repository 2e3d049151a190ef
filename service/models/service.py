"""Models as customers see them."""

from __future__ import annotations

from service.context import ServiceContext
from service.models.catalogue import known_models
from service.models.schemas import ModelSchema


def list_models(context: ServiceContext) -> list[ModelSchema]:
    """The models that customers are told of, the default first. Blocking."""
    fleet = context.fleet
    speeds = fleet.speeds()
    live = {name for worker in fleet.workers() if not worker.is_draining for name in worker.models}
    return [
        ModelSchema.of(model, speed=speeds.get(model.name), is_available=model.name in live)
        for model in known_models(context)
        if model.is_listed
    ]
