"""The tiny training configuration, for the kit's slices of training."""

from tests.training.conftest import tiny_config

__all__ = ["tiny_config"]
