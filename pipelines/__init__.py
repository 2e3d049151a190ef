"""Tensors in, tensors out: one-step diffusion video super-resolution."""
