"""Opacity beside colours: enlarged by itself, and taken out of or brought into the colours."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Bicubic interpolation looks two pixels far.
_REACH = 4
_TINY = 1e-6


def enlarge_alpha(alpha: Tensor, size: tuple[int, int]) -> Tensor:
    """Opacity for a picture of another size, by bicubic interpolation.

    Args:
        alpha: (1, h, w), float32, [0, 1].
        size: (H, W), in pixels.

    Returns:
        (1, H, W), float32, [0, 1]: `alpha` itself where it has the size.
    """
    if alpha.shape[-2:] == size:
        return alpha
    return F.interpolate(alpha[None], size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def unmultiply(image: Tensor, alpha: Tensor) -> Tensor:
    """The colours that were multiplied by an opacity.

    What cannot be seen has lost its colour. It gets that of the visible pixels around it, so that enlarging
    does not draw black into the edges of what can be seen.

    Args:
        image: (3, H, W), float32, [0, 1].
        alpha: (1, H, W), float32, [0, 1].

    Returns:
        (3, H, W), float32, [0, 1]; black where nothing can be seen within `_REACH` pixels.
    """
    around = _mean_around(image) / _mean_around(alpha).clamp_min(_TINY)
    return torch.where(alpha > 0, image / alpha.clamp_min(_TINY), around).clamp_(0.0, 1.0)


def _mean_around(planes: Tensor) -> Tensor:
    """The mean of the square around each pixel."""
    return F.avg_pool2d(planes, 2 * _REACH + 1, stride=1, padding=_REACH)


def over_black(image: Tensor, alpha: Tensor | None) -> Tensor:
    """A picture as it looks on black: (3, H, W) in [0, 1], of straight colours and (1, h, w) in [0, 1].

    None is opaque.
    """
    if alpha is None:
        return image
    height, width = image.shape[-2:]
    return image * enlarge_alpha(alpha, (height, width))
