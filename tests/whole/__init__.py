"""Tests of a whole installation: `dovetail serve` in processes of its own, real HTTP, real files."""
