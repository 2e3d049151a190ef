"""The one-step rule: degraded latents in, restored latents out, one transformer call.

DOVE (arXiv 2505.16239, section 3.1) treats the latents of the degraded video as if they were the noisy
latents z_t of a diffusion process at a fixed timestep t, lets the transformer predict the velocity v once,
and reads the clean latents off the v-parametrisation:

    z_sr = sqrt(alpha_bar_t) * z_lq - sqrt(1 - alpha_bar_t) * v_theta(z_lq, t, c)

CogVideoX's 1.5 layout folds `patch_size_t` latent frames into one token; a latent clip whose length is not
a multiple of it gets copies of its first frame in front, which are dropped again from the result.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from pipelines.dove.attention import RotaryEmbedding, ViewTokens
from pipelines.planning.patterns import TokenGrid

MAX_ROTARY_TABLES = 8


class VelocityScheduler(Protocol):
    """What the rule needs of a scheduler: CogVideoX's DDIM and DPM schedulers both have it."""

    def get_velocity(
        self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor: ...


def num_leading_copies(num_latent_frames: int, patch_size_t: int | None) -> int:
    """Copies of the first latent frame that DOVE puts in front: T % patch_size_t, as its script has it."""
    return num_latent_frames % patch_size_t if patch_size_t else 0


def with_leading_copies(latents: torch.Tensor, config: Any) -> torch.Tensor:
    """(B, T, C, h, w) with as many copies of the first frame in front as whole tokens need."""
    num_copies = num_leading_copies(latents.shape[1], config.patch_size_t)
    if not num_copies:
        return latents
    return torch.cat([latents[:, :1].repeat(1, num_copies, 1, 1, 1), latents], dim=1)


def token_grid(num_latent_frames: int, height: int, width: int, config: Any) -> TokenGrid:
    """Tokens along time, height and width for latents of this size (height and width in latent pixels)."""
    patch_size_t = config.patch_size_t or 1
    return (
        (num_latent_frames + patch_size_t - 1) // patch_size_t,
        height // config.patch_size,
        width // config.patch_size,
    )


def rotary_embedding(grid: TokenGrid, config: Any, device: torch.device | str) -> RotaryEmbedding | None:
    """Rotary tables of a token grid, or None for checkpoints with additive positions (CogVideoX-2B).

    Positions are the plain integers 0..n-1 on each axis and start at 0 in every tile and chunk.

    Returns:
        cos and sin, each (T*H*W, attention_head_dim), float32.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    num_frames, height, width = grid
    cos, sin = get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=None,
        grid_size=(height, width),
        temporal_size=num_frames,
        grid_type="slice",
        max_size=(height, width),
        device=torch.device(device),
    )
    return cos, sin


class RotaryTables:
    """The tables of the last few token grids.

    Equal tiles need one, the reference's merged ones up to four for each length of a chunk.

    Args:
        config: Of the transformer.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._tables: dict[tuple[TokenGrid, torch.device], RotaryEmbedding | None] = {}

    def of(self, grid: TokenGrid, device: torch.device) -> RotaryEmbedding | None:
        """As `rotary_embedding`."""
        key = grid, device
        if key not in self._tables:
            if len(self._tables) >= MAX_ROTARY_TABLES:
                self._tables.clear()
            self._tables[key] = rotary_embedding(grid, self._config, device)
        return self._tables[key]


def one_step(
    transformer: torch.nn.Module,
    scheduler: VelocityScheduler,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    *,
    timestep: int,
    rotary: RotaryEmbedding | None = None,
    view: ViewTokens | None = None,
) -> torch.Tensor:
    """Restores latents with a single transformer call.

    Args:
        transformer: A `CogVideoXTransformer3DModel`.
        scheduler: Holds alpha_bar; the coefficients are cast to the latents' dtype before the square root,
            as diffusers does, so they carry the reference's rounding in bfloat16.
        latents: (B, T, C, h, w), scaled latents of the degraded video.
        prompt_embeds: (1 or B, L, D) text embedding, same dtype as the latents.
        timestep: The timestep the checkpoint was trained for (399 for DOVE).
        rotary: Tables of `rotary_embedding`, if the caller keeps them; computed here otherwise.
        view: The frame that the latents are tiles of, for a transformer that was given a branch for it.

    Returns:
        (B, T, C, h, w), the restored latents in the latents' dtype.
    """
    config: Any = transformer.config
    num_copies = num_leading_copies(latents.shape[1], config.patch_size_t)
    latents = with_leading_copies(latents, config)
    batch_size, num_frames, _, height, width = latents.shape
    grid = token_grid(num_frames, height, width, config)
    if rotary is None:
        rotary = rotary_embedding(grid, config, latents.device)
    attention: dict[str, Any] = {"token_grid": grid} if needs_token_grid(transformer) else {}
    if view is not None:
        attention["view"] = view
    timesteps = torch.full((batch_size,), timestep, dtype=torch.long, device=latents.device)
    velocity = transformer(
        hidden_states=latents,
        encoder_hidden_states=prompt_embeds.expand(batch_size, -1, -1),
        timestep=timesteps,
        image_rotary_emb=rotary,
        attention_kwargs=attention or None,
        return_dict=False,
    )[0]
    # get_velocity(sample, noise, t) is sqrt(a)*noise - sqrt(1-a)*sample: with the roles swapped it is the
    # v-rule for x0.
    restored = scheduler.get_velocity(velocity, latents, timesteps)
    return restored[:, num_copies:]


def needs_token_grid(transformer: torch.nn.Module) -> bool:
    """Whether the attention processors take the token grid; diffusers' own know a flat sequence."""
    # nn.Module types its attributes as Tensor or Module; this is a list of blocks.
    processor: Any = transformer.transformer_blocks[0].attn1.processor  # type: ignore[union-attr, index]
    return bool(getattr(processor, "uses_token_grid", False))
