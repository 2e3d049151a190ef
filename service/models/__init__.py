"""The models that jobs may name."""
