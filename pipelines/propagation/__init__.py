"""The restorer of dovetail-nano 2: convolutions at LR resolution, states carried along motion."""

from pipelines.propagation.checkpoint import (
    PropagationDescription,
    load_propagation,
    read_description,
    save_propagation,
)
from pipelines.propagation.conditioning import LEVEL_NAMES, LEVEL_UNITS
from pipelines.propagation.network import SCALES, PropagationConfig, PropagationNet, Restored

__all__ = [
    "LEVEL_NAMES",
    "LEVEL_UNITS",
    "SCALES",
    "PropagationConfig",
    "PropagationDescription",
    "PropagationNet",
    "Restored",
    "load_propagation",
    "read_description",
    "save_propagation",
]
