"""Speed of our small model now and before, in one process: forward and a fine-tuning step, by turns.

The former shape is stated here in full, so that it stays what it is compared with: patches of 4, width 128, four
blocks.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch.nn import functional as F

from prithvi.models import Segmenter
from prithvi.models.config import ModelConfig

SIZE, BATCH, THREADS = 224, 8, 2
FORMER = ModelConfig(
    architecture="prithvi_hls_tiny", img_size=(SIZE, SIZE), num_frames=1, patch_size=(1, 4, 4), embed_dim=128, depth=4,
    num_heads=4, decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4, coords_encoding=("time", "location"),
    coords_scale_learn=True, blend_fill=True, clip=(0.0, 10_000.0),
)  # fmt: skip


def shapes(config: ModelConfig, head: str) -> dict[str, tuple[ModelConfig, str]]:
    """What is timed: configuration and head; `light` is a linear layer on the tokens, so that these are timed alone."""
    import dataclasses

    here = dataclasses.replace(config, img_size=(SIZE, SIZE), num_frames=1)
    return {
        "former, tokens alone": (FORMER, "light"), "former, detail": (FORMER, "detail"),
        "now, tokens alone": (here, "light"), f"now, {head}": (here, head),
    }  # fmt: skip


def once(model: Segmenter, images: torch.Tensor, label: torch.Tensor, optimizer: Any) -> tuple[float, float]:
    """Seconds of a forward pass and of a fine-tuning step."""
    model.eval()
    with torch.no_grad():
        started = time.perf_counter()
        model(images)
        forward = time.perf_counter() - started
    model.train()
    started = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(images), label).backward()
    optimizer.step()
    return forward, time.perf_counter() - started


def measure(config: ModelConfig, head: str, repeats: int = 5) -> dict[str, dict[str, list[float]]]:
    """Seconds of each repeat, forward and step, by shape; the shapes take turns, and the first round does not count."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    images, label = torch.randn(BATCH, 6, 1, SIZE, SIZE), torch.randint(2, (BATCH, SIZE, SIZE))
    models = {name: Segmenter(of, 2, kind) for name, (of, kind) in shapes(config, head).items()}
    optimizers = {name: torch.optim.AdamW(model.parameters(), 1e-3) for name, model in models.items()}
    found: dict[str, dict[str, list[float]]] = {name: {"forward": [], "step": []} for name in models}
    for round_ in range(repeats + 1):
        for name, model in models.items():
            forward, step = once(model, images, label, optimizers[name])
            if round_:
                found[name]["forward"].append(forward)
                found[name]["step"].append(step)
    return found


def rows(found: dict[str, dict[str, list[float]]]) -> list[list[Any]]:
    """Images a second, seconds a step, and how many times faster than the former shape's like (median and range)."""
    result: list[list[Any]] = []
    names = list(found)
    for name in names:
        former = names[0] if "tokens" in name else names[1]
        row: list[Any] = [
            name,
            BATCH / statistics.median(found[name]["forward"]),
            statistics.median(found[name]["step"]),
        ]
        for what in ("forward", "step"):
            ratios = [a / b for a, b in zip(found[former][what], found[name][what], strict=True)]
            row.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
        result.append(row)
    return result
