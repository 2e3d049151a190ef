"""Which models jobs may name: those of the settings, and those that workers have told of."""

from __future__ import annotations

from functools import cache

import structlog

from jobs.fleet import ModelInfo
from pipelines.catalogue import DescribedModel, describe_model
from pipelines.errors import CheckpointError
from service.context import ServiceContext

_log = structlog.get_logger(__name__)


def known_models(context: ServiceContext) -> list[ModelInfo]:
    """The catalogue, the default first. Blocking.

    Jobs are taken before any worker has lived: on a cluster that starts workers for waiting jobs none would
    ever come otherwise. Where nobody has set DOVETAIL_MODELS, workers know better than its default.
    """
    settings = context.settings
    offered = context.fleet.models()
    if offered and "models" not in settings.model_fields_set:
        return offered
    by_name = {name: _described(name, source) for name, source in settings.model_sources.items()}
    by_name |= {model.name: model for model in offered}
    return [
        model.model_copy(update={"is_default": position == 0})
        for position, model in enumerate(by_name.values())
    ]


@cache
def _described(name: str, source: str) -> ModelInfo:
    """A model that no worker has loaded yet."""
    try:
        found = describe_model(source)
    except CheckpointError as error:
        # Workers will say the same, and more loudly.
        _log.warning("models.not_described", model=name, error=str(error))
        found = DescribedModel("unknown")
    return ModelInfo(
        name=name,
        kind=found.kind,
        scale=found.scale,
        licence=found.licence,
        source=found.source,
        is_measured=False,
    )
