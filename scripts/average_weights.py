"""The mean of checkpoints of dovetail-nano-2's kind, with the estimator of one of them.

    python scripts/average_weights.py CHECKPOINT CHECKPOINT ... --estimator CHECKPOINT --output FOLDER

For states of one training, some thousand steps apart; what the means of two and of three were worth stands in
docs/decisions/0018. One estimator is taken as it is: training one longer made it another, not a better one.
Ranges of activations are those of the first checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pipelines.propagation.checkpoint import load_propagation, save_propagation


def main() -> None:
    """Writes the mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--estimator", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    loaded = [load_propagation(folder) for folder in args.checkpoints]
    states = [network.state_dict() for network, _ in loaded]
    estimator = load_propagation(args.estimator)[0].state_dict()
    mean = {
        name: estimator[name]
        if name.startswith("estimator.") or not value.is_floating_point()
        else torch.stack([state[name].float() for state in states]).mean(dim=0)
        for name, value in states[0].items()
    }
    network, description = loaded[0]
    network.load_state_dict(mean)
    steps = max(found.training_steps for _, found in loaded)
    description = description.model_copy(update={"training_steps": steps})
    save_propagation(network, args.output, description, dtype=torch.float16)


if __name__ == "__main__":
    main()
