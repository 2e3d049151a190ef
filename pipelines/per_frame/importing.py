"""The import of spandrel, which takes a second and may not be installed."""

from __future__ import annotations

import importlib
import threading
from typing import Any

from pipelines.errors import BackendUnavailableError
from pipelines.per_frame.architectures.registration import register_architectures
from pipelines.per_frame.torchvision_functions import torchvision_or_stand_in

_lock = threading.Lock()


def import_spandrel() -> Any:
    """The module, with our own architectures in its registry.

    Raises:
        BackendUnavailableError: If it is not installed.
    """
    with _lock, torchvision_or_stand_in():
        try:
            spandrel = importlib.import_module("spandrel")
        except ImportError as error:
            raise BackendUnavailableError(
                f"a network in one weights file needs the package spandrel, which is not here ({error}); "
                "install it with: pip install 'dovetail-vsr[networks]'"
            ) from error
        register_architectures(spandrel)
        return spandrel
