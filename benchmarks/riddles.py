"""Frames of which a tile alone cannot tell what they are to become: a grey with one mark, white or black."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# What the mark says, [-1, 1]: 12 code values up or down.
SHIFT = 24 / 255
MARK = 0.9


@dataclass(frozen=True)
class Riddles:
    """Frames of one grey with a mark.

    Attributes:
        grey: (B,), [-1, 1].
        sign: (B,), 1 for a white mark and a grey that is to become lighter, -1 for black and darker.
        mark: (B, 4), first and last row and column of the mark, shares of the frame.
    """

    grey: torch.Tensor
    sign: torch.Tensor
    mark: torch.Tensor

    @classmethod
    def draw(cls, count: int, tokens: tuple[float, float]) -> Riddles:
        """Random ones, with marks of whole tokens of the frame, a third to two thirds of each side."""
        side = (1 + torch.rand(2, count)) / 3
        start = torch.rand(2, count) * (1 - side)
        places = torch.stack([start[0], start[0] + side[0], start[1], start[1] + side[1]], dim=-1)
        lengths = torch.tensor(tokens).repeat_interleave(2)
        mark = (places * lengths).round() / lengths
        return cls(0.4 * torch.rand(count) - 0.2, 2.0 * torch.randint(0, 2, (count,)) - 1, mark)

    def tiles(self, tokens: tuple[float, float], tile: int) -> torch.Tensor:
        """Row and column of a tile of each frame, tokens, (B, 2): every other one over the mark's corner."""
        limits = torch.tensor(tokens).floor() - tile
        anywhere = torch.rand(len(self.grey), 2) * limits
        corners = self.mark[:, [0, 2]] * torch.tensor(tokens) - tile * torch.rand(len(self.grey), 2)
        is_corner = torch.arange(len(self.grey))[:, None] % 2 == 0
        return torch.where(is_corner, corners, anywhere).round().clamp(min=torch.zeros(2), max=limits)

    def paint(
        self, rows: torch.Tensor, cols: torch.Tensor, *, is_solved: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames, or parts of them.

        Args:
            rows: (B, h), middles of rows, shares of the frame.
            cols: (B, w).
            is_solved: Restored, not as they come.

        Returns:
            (B, 3, 1, h, w), [-1, 1], and where the mark is, (B, h, w).
        """
        top, bottom, left, right = self.mark.T[..., None]
        is_mark = ((rows >= top) & (rows < bottom))[:, :, None] & ((cols >= left) & (cols < right))[:, None]
        grey = self.grey + (SHIFT * self.sign if is_solved else 0)
        painted = torch.where(is_mark, MARK * self.sign[:, None, None], grey[:, None, None])
        return painted[:, None, None].expand(-1, 3, -1, -1, -1), is_mark


# Of whole tokens.
MARK_PLACE = (14 / 135, 61 / 135, 132 / 240, 228 / 240)
RIDDLES = {
    name: Riddles(torch.tensor([0.1]), torch.tensor([sign]), torch.tensor([MARK_PLACE]))
    for name, sign in (("lighter", 1.0), ("darker", -1.0))
}


def middles(origin: torch.Tensor, count: int, length: float) -> torch.Tensor:
    """(B, count) middles of pixels from `origin` (B,) on, of a side that has `length` of them, as shares."""
    return (origin[:, None] + torch.arange(count) + 0.5) / length
