"""What a plan of the diffusion family has to fit: frames, memory, wishes, and what tiles would take."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.planning.ladders import TileSize, tile_ladder, vae_ladder
from pipelines.planning.shapes import DiffusionShape
from pipelines.planning.view import view_size

VAE_OVERLAP = 64


@dataclass(frozen=True)
class DiffusionFit:
    """What a plan has to fit, kept by it so that it can make a smaller one.

    Attributes:
        num_frames: Frames of the padded clip.
        height: Of the padded frame, in pixels of the network's output.
        width: Of the padded frame.
        model: The checkpoint's shape.
        memory_bytes: Free for activations.
        overlap: Smallest overlap of transformer tiles in pixels.
        chunk_overlap: Smallest overlap of chunks in frames.
        tile: Transformer tile that was asked for.
        source_pixels: Of a frame of the source.
        out_size: Height and width of the output.
    """

    num_frames: int
    height: int
    width: int
    model: DiffusionShape
    memory_bytes: int
    overlap: int
    chunk_overlap: int
    tile: TileSize | None
    source_pixels: int
    out_size: TileSize

    @property
    def frame(self) -> TileSize:
        """The padded frame."""
        return self.height, self.width

    @property
    def vae_overlap(self) -> int:
        # The space-to-depth decoder takes its margin itself and is exact; there is nothing to fade.
        return VAE_OVERLAP if self.model.autoencoder == "cogvideox" else 0

    @property
    def tiles(self) -> list[TileSize]:
        """Transformer tiles to choose from, largest first."""
        return tile_ladder(self.model, self.frame, self.overlap, self.tile)

    @property
    def vae_tiles(self) -> list[TileSize]:
        """VAE tiles to choose from, largest first; (0, 0) is the whole frame."""
        return vae_ladder(self.model, self.frame, self.vae_overlap)

    def view(self, tile: TileSize) -> TileSize | None:
        """Pixels of the view of the whole frame that such tiles get; None for none."""
        if not self.model.view_tokens or tile == self.frame:
            return None
        return view_size(self.frame, tokens=self.model.view_tokens, alignment=self.model.alignment)

    def keys_per_token(self, chunk_len: int, tile: TileSize) -> float:
        """Keys that a query of such a tile is compared with, on average."""
        view = self.view(tile)
        keys = self.model.keys_per_token(chunk_len, *tile)
        return keys + (self.model.num_tokens(1, *view) if view else 0)

    def transformer_bytes(self, chunk_len: int, tile: TileSize, batch: int = 1) -> int:
        """Peak of one transformer call on so many tiles."""
        needed = self.model.transformer_bytes(chunk_len, *tile, batch=batch)
        view = self.view(tile)
        return needed + (self.model.view_bytes(chunk_len, *view, batch=batch) if view else 0)

    def chunk_bytes(self, chunk_len: int) -> int:
        """Buffers that live through a chunk."""
        return self.model.chunk_bytes(chunk_len, self.height, self.width, source_pixels=self.source_pixels)

    def vae_bytes(self, vae_tile: TileSize, chunk_len: int) -> int:
        """Activation peak of the VAE on one of `vae_tiles`."""
        height, width = vae_tile[0] or self.height, vae_tile[1] or self.width
        # A single image has a chunk to itself, which is longer.
        return self.model.vae_bytes(height, width, num_frames=min(chunk_len, self.num_frames))

    def finish_frames(self, chunk_len: int) -> int:
        """Frames that are finished at once, where no plan asks for fewer."""
        return min(self.model.finish_frames(chunk_len, *size) for size in (self.frame, self.out_size))

    def finish_bytes(self, chunk_len: int, finish_frames: int = 0) -> int:
        """Peak of finishing frames."""
        sizes = (self.frame, self.out_size)
        return max(self.model.finish_bytes(chunk_len, *size, finish_frames=finish_frames) for size in sizes)

    def is_streamed(self, tile: TileSize, vae_tile: TileSize) -> bool:
        """Whether frames pass the network whole, in the form that needs least memory."""
        return self.model.is_streamed and tile == self.frame and vae_tile == (0, 0)

    def estimated_bytes(
        self,
        chunk_len: int,
        tile: TileSize,
        vae_tile: TileSize,
        tile_batch: int = 1,
        finish_frames: int = 0,
    ) -> int:
        """Peak of a chunk in these tiles."""
        finish = self.finish_bytes(chunk_len, finish_frames)
        if self.is_streamed(tile, vae_tile):
            streamed = self.model.streamed_bytes(
                chunk_len, *self.frame, source_pixels=self.source_pixels, finish_frames=finish_frames
            )
            # Resampling from the network's size adds the difference.
            own = self.model.finish_bytes(chunk_len, *self.frame, finish_frames=finish_frames)
            return streamed + max(finish - own, 0)
        transformer = self.transformer_bytes(chunk_len, tile, tile_batch)
        vae = self.vae_bytes(vae_tile, chunk_len)
        return self.chunk_bytes(chunk_len) + max(transformer, vae, finish)
