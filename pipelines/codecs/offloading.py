"""What modules need whose `forward` is not what is called first."""

from __future__ import annotations

from typing import Any


def wake(module: Any) -> None:
    """Runs accelerate's offload hook of a module whose `forward` is not what is called next."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
