"""Seconds and memory of the attention alone against the number of tokens, pattern by pattern.

    python -m benchmarks.attention [--tokens 2048 4096 ...] [--heads 30] [--device cuda] OUT.json

One layer of joint attention of CogVideoX-2B's width with random weights, on grids of 4 x H x 2H tokens and
226 text tokens, without gradients. Memory is what is alive at most beside the layer and its input.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from pipelines.dove.attention import set_attention
from pipelines.memory_tracking import peak_memory
from pipelines.planning.attention import AttentionSettings
from pipelines.planning.patterns import TokenGrid

PATTERNS: dict[str, Any] = {
    "full": "full",
    "window": {"pattern": "window", "window": [8, 8]},
    "window+global": {"pattern": "window+global", "window": [8, 8], "pool": 4},
    "sparse": {"pattern": "sparse", "window": [1, 8, 8], "num_similar": 1},
    "routed": None,
    "units": {"pattern": "units", "unit": 2},
    "linear": {"pattern": "linear", "blocks": [1, 4, 8]},
}
NUM_TEXT = 226


def make_layer(attention: Any, heads: int, head_dim: int, device: str, dtype: torch.dtype) -> Any:
    """The attention module of a transformer's only layer."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        num_layers=1,
        use_rotary_positional_embeddings=True,
    )
    if attention is None:  # a third of the heads each way
        routes = [("global", "frame", "window")[index % 3] for index in range(heads)]
        attention = {"pattern": "routed", "heads": [routes]}
    set_attention(transformer, AttentionSettings.model_validate(attention))
    return transformer.transformer_blocks[0].attn1.to(device=device, dtype=dtype).eval()


def grid_of(num_tokens: int) -> TokenGrid:
    """4 x H x 2H with about as many tokens."""
    height = max(round((num_tokens / 8) ** 0.5), 1)
    return 4, height, 2 * height


@torch.no_grad()
def measure(layer: Any, grid: TokenGrid, repeats: int) -> dict[str, float]:
    """Median seconds of a call, on the clock and of this process, and its peak bytes; one call before is not
    counted."""
    weight = layer.to_q.weight
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    video = torch.randn(1, grid[0] * grid[1] * grid[2], weight.shape[1], **options)
    text = torch.randn(1, NUM_TEXT, weight.shape[1], **options)
    rotary = get_3d_rotary_pos_embed(
        layer.processor_head_dim,
        None,
        grid[1:],
        grid[0],
        grid_type="slice",
        max_size=grid[1:],
        device=weight.device,
    )

    def call() -> None:
        layer.processor(layer, video, text, image_rotary_emb=rotary, token_grid=grid)
        if weight.device.type == "cuda":
            torch.cuda.synchronize()

    call()
    with peak_memory(weight.device) as peak:
        call()
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        started, started_cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - started_cpu)
    return {
        "tokens": video.shape[1],
        "seconds": median(seconds),
        "cpu_seconds": median(cpu_seconds),  # what other programs on the machine change least
        "peak_bytes": peak.num_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--heads", type=int, default=30)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for name in args.patterns:
        layer = make_layer(PATTERNS[name], args.heads, args.head_dim, args.device, getattr(torch, args.dtype))
        layer.processor_head_dim = args.head_dim
        for num_tokens in args.tokens:
            rows.append({"pattern": name} | measure(layer, grid_of(num_tokens), args.repeats))
            print(rows[-1], flush=True)
    device = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    options = {name: value for name, value in vars(args).items() if name != "out"}
    args.out.write_text(json.dumps({"device": device, "options": options, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
