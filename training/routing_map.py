"""What heads lose by local routes, and the routes they got, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on the machines that train

import matplotlib.pyplot as plt
from matplotlib.colors import PowerNorm

from pipelines.dove.attention.calibration import LOCAL_ROUTES
from training.routing import Calibration

MAP_NAME = "routes.png"


def plot_routes(folder: Path, calibration: Calibration) -> None:
    """Plots KL(local || global) by layer and head, one map for each local route: `routes.png`.

    A head's route is marked in the map of that route; heads without a mark are global.

    Args:
        folder: Where the picture is written.
        calibration: Of a checkpoint.
    """
    num_layers, num_routes, num_heads = calibration.divergence.shape
    size = max(1.2 + 0.3 * num_heads, 3.2) * num_routes + 1, max(1.4 + 0.3 * num_layers, 2.6)
    figure, panels = plt.subplots(1, num_routes, figsize=size, sharey=True, layout="constrained")
    # One scale for all maps, whose colours are to be compared; of square roots, since few heads lose many
    # nats and it is below one that they are told apart.
    scale = PowerNorm(0.5, vmin=0, vmax=max(float(calibration.divergence.max()), 1e-6))
    for number, (route, axes) in enumerate(zip(LOCAL_ROUTES, panels, strict=True)):
        image = axes.imshow(calibration.divergence[:, number].numpy(), norm=scale, aspect="auto")
        chosen = [
            (head, layer)
            for layer, routes in enumerate(calibration.heads)
            for head, own in enumerate(routes)
            if own == route
        ]
        axes.scatter(
            [head for head, _ in chosen],
            [layer for _, layer in chosen],
            s=36,
            color="white",
            edgecolors="black",
        )
        axes.set(title=f"{route}: {len(chosen)} of {num_layers * num_heads}", xlabel="head")
        axes.locator_params(integer=True)
    panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=panels, label="KL(local || global), nats")
    num_global = sum(routes.count("global") for routes in calibration.heads)
    figure.suptitle(f"dot: route of this head ({num_global} global, without a dot)", fontsize="medium")
    figure.savefig(folder / MAP_NAME, dpi=110)
    plt.close(figure)
