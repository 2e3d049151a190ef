"""How visible tiles are: gradients across their borders against gradients elsewhere, and their tones."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pipelines.planning.spans import TileGrid


def tile_tones(
    frame: torch.Tensor, source: torch.Tensor, grid: TileGrid, is_flat: torch.Tensor
) -> torch.Tensor:
    """The mean tone that the restoration added to the flat areas of each tile.

    Args:
        frame: (3, H, W), output, [0, 1].
        source: (3, H, W), the interpolated source.
        grid: The tiles.
        is_flat: (H, W), bool, what is looked at; tiles without such a pixel are left out.

    Returns:
        (tiles, 3), code values of 8 bits, float64.

    Raises:
        ValueError: If no tile has a flat pixel.
    """
    added = 255 * (frame.double() - source.double())
    tones = [
        added[:, row.slice, col.slice][:, flat].mean(dim=-1)
        for row, col in grid.tiles
        if (flat := is_flat[row.slice, col.slice]).any()
    ]
    if not tones:
        raise ValueError(f"none of {len(grid)} tiles has a flat pixel")
    return torch.stack(tones)


def tone_drift(tones: torch.Tensor) -> float:
    """Largest difference between any two tiles in any channel of `tile_tones`, code values."""
    return float((tones.amax(dim=0) - tones.amin(dim=0)).max())


def seam_ratio(
    frames: torch.Tensor,
    source: torch.Tensor,
    *,
    rows: Iterable[int] = (),
    cols: Iterable[int] = (),
    period: int = 1,
) -> float:
    """Mean energy of added gradients across given borders, relative to that across all other lines.

    Only what the restoration added counts (the gradient of output minus source), so an edge of the picture
    that happens to lie on a border is not taken for a seam.

    Args:
        frames: (..., H, W), output.
        source: (..., H, W), the interpolated source, or zeros to measure the output alone.
        rows: Borders between rows r - 1 and r.
        cols: Borders between columns c - 1 and c.
        period: Lines are compared with those at the same place of a grid of this many pixels; 16 for networks
            whose tokens are 16 pixels wide, which leave a pattern of their own.

    Returns:
        About 1 where borders cannot be told from other lines; a visible seam gives several times that.

    Raises:
        ValueError: If there is no border or a border is outside the frame.
    """
    added = frames.double() - source.double()
    on_border: list[torch.Tensor] = []
    elsewhere: list[torch.Tensor] = []
    for dim, borders in ((-2, list(rows)), (-1, list(cols))):
        if not borders:
            continue
        energy = added.diff(dim=dim).square().transpose(dim, -1).flatten(0, -2).mean(dim=0)
        index = torch.tensor(borders) - 1
        if index.min() < 0 or index.max() >= energy.numel():
            raise ValueError(f"borders {borders} do not lie inside {energy.numel() + 1} lines")
        is_border = torch.zeros(energy.numel(), dtype=torch.bool)
        is_border[index] = True
        phase = torch.arange(energy.numel()) % period
        is_alike = torch.isin(phase, phase[is_border])
        on_border.append(energy[is_border])
        elsewhere.append(energy[~is_border & is_alike])
    if not on_border:
        raise ValueError("no borders given")
    floor = torch.finfo(torch.float64).tiny
    return float(torch.cat(on_border).mean() / torch.cat(elsewhere).mean().clamp(min=floor))
