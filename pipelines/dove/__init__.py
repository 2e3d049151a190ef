"""The one-step diffusion pipeline of DOVE on CogVideoX transformers."""
