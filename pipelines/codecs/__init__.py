"""Autoencoders: samples to latents and back, each kind in a module of its own behind one protocol."""
