"""The one-step diffusion pipeline of DOVE on CogVideoX transformers."""

import logging

# diffusers imports torchao wherever it is installed, used or not. Each tells at length of what it did not
# find in the other, and of kernels for other machines; nothing of it concerns us.
for _name in ("torchao", "diffusers.quantizers.torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
