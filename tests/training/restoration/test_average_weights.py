"""The mean of checkpoints, by the script that made the embedded one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from pipelines.propagation import PropagationConfig, PropagationDescription, PropagationNet, save_propagation
from pipelines.propagation.checkpoint import load_propagation

SCRIPT = Path(__file__).parents[3] / "scripts" / "average_weights.py"


def test_bodies_are_averaged_and_one_estimator_is_taken(tmp_path: Path) -> None:
    config = PropagationConfig(channels=8, scales=(4,))
    folders = []
    for seed in range(3):
        torch.manual_seed(seed)
        folders.append(tmp_path / str(seed))
        description = PropagationDescription(name="x", network=config, training_steps=10 * seed)
        save_propagation(PropagationNet(config), folders[-1], description, dtype=torch.float32)
    arguments = [*map(str, folders), "--estimator", str(folders[1]), "--output", str(tmp_path / "mean")]
    subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, cwd=SCRIPT.parents[1])
    states = [load_propagation(folder)[0].state_dict() for folder in folders]
    network, description = load_propagation(tmp_path / "mean")
    assert description.training_steps == 20
    for name, value in network.state_dict().items():
        parts = [states[1]] if name.startswith("estimator.") else states
        expected = torch.stack([state[name].float() for state in parts]).mean(dim=0)
        torch.testing.assert_close(value.float(), expected, atol=2e-3, rtol=1e-3)
