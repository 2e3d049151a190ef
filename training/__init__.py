"""How checkpoints are made and judged: degradations, data, losses, the two stages, metrics, evaluation."""
