"""Checkpoints of CogVideoX1.5-5B's size and layout with random weights, and a first run of one."""
