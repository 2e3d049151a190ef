"""Where pulled models are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def store_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the store: DOVETAIL_MODELS_DIR, or where the user's data are.

    Args:
        environment: Variables by name.
    """
    if chosen := environment.get("DOVETAIL_MODELS_DIR"):
        return Path(chosen).expanduser()
    data = Path(environment.get("XDG_DATA_HOME", ""))
    # By the XDG rules a relative one does not count.
    return (data if data.is_absolute() else Path.home() / ".local" / "share") / "dovetail" / "models"
