"""The catalogue that workers have written."""

from __future__ import annotations

from service.context import ServiceContext
from service.models.schemas import ModelSchema


def list_models(context: ServiceContext) -> list[ModelSchema]:
    """The models that customers are told of, the default first. Blocking."""
    fleet = context.fleet
    speeds, is_available = fleet.speeds(), bool(fleet.workers())
    return [
        ModelSchema.of(model, speed=speeds.get(model.name), is_available=is_available)
        for model in fleet.models()
        if model.is_listed
    ]
