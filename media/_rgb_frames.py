"""R'G'B' float frames as the packed R'G'B' frames that encoders of pictures take."""

import av
import torch
from torch import Tensor

from media._plane_layouts import RGB_LAYOUTS, keeps_alpha
from media.errors import EncodeError


class RgbFrames:
    """Converts frames of one size, rounded to the nearest code.

    Args:
        width: Width of the images, in pixels.
        height: Height of the images, in pixels.
        pix_fmt: One of `RGB_LAYOUTS`.
    """

    def __init__(self, width: int, height: int, *, pix_fmt: str) -> None:
        self._shape = (3, height, width)
        self._pix_fmt = pix_fmt
        self._levels = 2 ** RGB_LAYOUTS[pix_fmt].bit_depth - 1

    def convert(self, image: Tensor, alpha: Tensor | None = None) -> av.VideoFrame:
        """Make a new frame from one image.

        Args:
            image: (3, H, W), float32, R'G'B' code values in [0, 1]; values outside are clamped. Any device.
            alpha: (1, H, W), float32, [0, 1], for a pixel format with opacity; None is opaque.

        Returns:
            A frame without time stamps or colour tags.

        Raises:
            EncodeError: The image has another shape or type, or contains NaN.
        """
        if image.shape != self._shape or image.dtype != torch.float32:
            raise EncodeError(
                f"a frame must be float32 of shape {self._shape}, got "
                f"{str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}"
            )
        if not torch.isfinite(image.sum()):
            raise EncodeError("a frame contains NaN; every value must be a number")
        if keeps_alpha(self._pix_fmt):
            image = torch.cat([image, torch.ones_like(image[:1]) if alpha is None else alpha])
        codes = (image.clamp(0, 1) * self._levels).round().permute(1, 2, 0).contiguous()
        values = codes.to(torch.uint16 if self._levels > 255 else torch.uint8).cpu().numpy()
        frame = av.VideoFrame.from_ndarray(values, format=self._pix_fmt.replace("be", "le"))
        return (
            frame if frame.format.name == self._pix_fmt else frame.reformat(format=self._pix_fmt, threads=1)
        )
