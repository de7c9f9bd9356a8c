"""Forward passes and pretraining steps beside TerraTorch's own classes with the same weights."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch

from benchmarks.suite.jobs import Work, need
from prithvi.models import PrithviMAE, build
from prithvi.models.masking import hide
from prithvi.process import settings_kept

Coordinates = tuple[torch.Tensor, torch.Tensor]
TINY, LARGE, SIDE = "prithvi_eo_v2_tiny_tl", "prithvi_eo_v2_100_tl", 224


def their_copy(model: PrithviMAE) -> Any:
    """TerraTorch's autoencoder with our weights, as it comes out of its own class."""
    need("terratorch")
    with settings_kept():  # both sides at full float32 precision, which the import lowers
        from terratorch.models.backbones.prithvi_mae import PrithviMAE as Theirs

    theirs = Theirs(**dataclasses.asdict(model.config))
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs


def inputs(name: str, samples: int, dates: int) -> tuple[PrithviMAE, torch.Tensor, Coordinates]:
    """The model (without the filling that TerraTorch has not), images, and where and when they are."""
    torch.manual_seed(0)
    model = build(name, num_frames=dates, img_size=SIDE, blend_fill=False)
    images = torch.randn(samples, 6, dates, SIDE, SIDE)
    times = torch.tensor([[2020.0, 30.0 * date] for date in range(dates)]).expand(samples, -1, -1)
    return model, images, (times, torch.tensor([[40.0, 3.0]]).expand(samples, -1))


def _forward(way: str, name: str, samples: int, dates: int) -> Work:
    model, images, coordinates = inputs(name, samples, dates)
    module: Any = model.eval() if way == "ours" else their_copy(model).eval()

    def work() -> dict[str, float]:
        with torch.inference_mode():
            tokens = module.encoder.forward_features(images, *coordinates)[-1]
        return {"mean of tokens": float(tokens.abs().mean())}

    return work


def prepare_forward(way: str, size: int, folder: Path) -> Work:
    """The published tiny shape, `size` images of one date."""
    return _forward(way, TINY, size, 1)


def prepare_forward_100m(way: str, size: int, folder: Path) -> Work:
    """The published 100M shape, one image of `size` dates."""
    return _forward(way, LARGE, 1, size)


def prepare_mae(way: str, size: int, folder: Path) -> Work:
    """The published tiny shape, a step of `size` images: forward, backward, AdamW, three quarters hidden."""
    model, images, coordinates = inputs(TINY, size, 1)
    patches = len(model.encoder.pos_embed[0]) - 1
    module: Any = their_copy(model) if way == "terratorch" else copy.deepcopy(model)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05)
    fraction = 0.5 if way == "half" else 1.0

    def work() -> dict[str, float]:
        if way == "terratorch":
            loss = module(images, *coordinates, mask_ratio=0.75)[0]["loss"]
        else:
            hidden = hide(torch.rand(len(images), patches), 0.75).fewer(fraction)
            loss = module.hidden_error(images, hidden, None, *coordinates).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": float(loss.detach())}

    return work
