"""Muon: momentum, orthogonalised, for weights that are matrices.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the
nearest matrix with orthonormal rows (columns where it is taller than wide), so that every direction is learnt
at the same pace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

# Quintic Newton-Schulz coefficients of the post: singular values end within about 0.7 to 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised; convolutions are seen as (out, in * k * k) matrices.

    Args:
        params: Weights (out, in) or (out, in, k, k).
        lr: Length of a step in the spectral norm.
        momentum: Share of the old momentum; Nesterov's form.
    """

    def __init__(self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    # torch types `step` as two overloads, one with a closure that gives the loss, which Muon has no use for.
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient; there is no closure."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                updates = torch.stack([self._momentum(w, group["momentum"]).flatten(1) for w in weights])
                for weight, update in zip(weights, orthogonalise(updates), strict=True):
                    weight.add_(update.reshape(shape), alpha=-group["lr"])

    def _momentum(self, weight: torch.Tensor, momentum: float) -> torch.Tensor:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average: torch.Tensor = state["momentum"].lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(average, momentum)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (N, rows, columns) with singular values brought near 1."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalise(matrices.mT).mT
    a, b, c = _COEFFICIENTS
    x: torch.Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
