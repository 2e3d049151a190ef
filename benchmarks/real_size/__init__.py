"""Checkpoints of CogVideoX1.5-5B's size and layout with random weights: first contact without the real ones."""
