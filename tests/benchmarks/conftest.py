"""The tiny restorer's configuration and material, for the kit's slices of training."""

from tests.training.conftest import training_data
from tests.training.restoration.conftest import raw_config, restoration_config

__all__ = ["raw_config", "restoration_config", "training_data"]
