"""Distillation of features: a frozen encoder, its features as targets, and two patch grids brought onto one.

Features are standardised per channel, because the channels of a vision transformer differ in spread by orders of
magnitude and a few of them would be the whole loss. LayerNorm would not mend that: it evens out tokens and not
channels, and the last layer has just come out of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.errors import ConfigError
from prithvi.models.codes import Coordinates
from prithvi.models.config import Grid
from prithvi.models.encoder import Encoder
from prithvi.models.standardise import Standardise


class Teacher(nn.Module):
    """An encoder that is not trained, behind its own standardisation.

    Args:
        encoder: the encoder.
        contract: units, band order and statistics of its input.
        data: bands and units of the pixels that it will be given, which have all of its bands in any order.
        layers: numbers of the blocks whose features are taken, counted from 0, or from -1 backwards.
        coordinates: give it dates and places, if it has codes for them.

    Raises:
        ConfigError: a block that it does not have.

    """

    def __init__(
        self,
        encoder: Encoder,
        contract: Contract,
        data: Contract,
        layers: Sequence[int] = (-1,),
        coordinates: bool = True,
    ) -> None:
        super().__init__()
        depth = encoder.config.depth
        if not layers or not all(-depth <= layer < depth for layer in layers):
            raise ConfigError(f"layers are {list(layers)}; the teacher has the blocks 0 to {depth - 1}.")
        self.encoder, self.standardise = encoder.requires_grad_(False), Standardise(contract)
        self.layers, self.coordinates = tuple(layers), coordinates
        self.order = [data.bands.index(band) for band in contract.bands]
        self.factor = contract.scale / data.scale
        self.width = len(self.layers) * encoder.config.embed_dim
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor, valid: Tensor, coordinates: Coordinates) -> Tensor:
        """(B, t, h, w, width) features on the grid of the teacher's patches, those of several blocks side by side.

        Args:
            images: (B, band, T, Y, X) pixels, with the bands and in the units of the data.
            valid: (B, T, Y, X) bool, False at nodata.
            coordinates: dates and places of the samples.

        """
        standardised = self.standardise(images[:, self.order].float() * self.factor, valid)
        known = coordinates if self.coordinates else (None, None)
        if self.layers == (-1,):
            found = self.encoder(standardised, *known).tokens
        else:  # all of them are kept until the last is there
            blocks = self.encoder.forward_features(standardised, *known)
            found = torch.cat([blocks[layer] for layer in self.layers], dim=-1)
        return on_grid(found.float(), self.encoder.grid_of(standardised))


class Targets(nn.Module):
    """What a student is to predict of (..., width) features: each channel of mean 0 and standard deviation 1.

    With `target_width`, these are projected onto as many random directions, which stay as they are drawn
    (orthonormal, so that a direction's variance is the channels' on average): fewer values to predict, of which none
    can be learnt away.

    Args:
        width: channels of the features.
        target_width: channels of the target; None for all.
        seed: of the directions.

    Raises:
        ConfigError: more directions than channels.

    """

    def __init__(self, width: int, target_width: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if target_width is not None and not 1 <= target_width <= width:
            raise ConfigError(f"target_width is {target_width}; the teacher's features have {width} channels.")
        self.width = target_width or width
        self.mean: Tensor
        self.std: Tensor
        self.basis: Tensor | None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.zeros(width))
        basis = None
        if target_width is not None:
            drawn = torch.randn(width, target_width, generator=torch.Generator().manual_seed(seed))
            basis = torch.linalg.qr(drawn)[0]
        self.register_buffer("basis", basis)

    @property
    def measured(self) -> bool:
        """Whether mean and standard deviation are known."""
        return bool(self.std.any())

    def measure(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes mean and standard deviation of features (..., width) by their weights (...)."""
        # In double precision; a channel that does not vary stays one, as its mean.
        total = torch.zeros((), dtype=torch.float64, device=self.mean.device)
        first = second = torch.zeros_like(self.mean, dtype=torch.float64)
        for features, weight in parts:
            x, w = features.double(), weight.double().unsqueeze(-1)
            axes = tuple(range(x.ndim - 1))
            total, first, second = total + w.sum(), first + (x * w).sum(axes), second + (x**2 * w).sum(axes)
        mean = first / total
        self.mean.copy_(mean)
        self.std.copy_((second / total - mean**2).clamp(min=1e-12).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """(..., target width) targets of (..., width) features."""
        found = (features - self.mean) / self.std
        return found if self.basis is None else found @ self.basis


def on_grid(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, t, h, w, D) the tokens (B, 1 + L, D) of an encoder at their places, without the class token."""
    return tokens[:, 1:].reshape(len(tokens), *grid, -1)


def pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., rows, columns, D) maps averaged by area onto a grid of `size`, which is no finer."""
    for axis, cells in zip((-3, -2), size, strict=True):
        if maps.shape[axis] != cells:
            weights = area_weights(maps.shape[axis], cells).to(maps)
            maps = torch.tensordot(maps, weights, dims=([axis], [1])).movedim(-1, axis)
    return maps


def area_weights(fine: int, coarse: int) -> Tensor:
    """(coarse, fine) share that each of `fine` equal cells along a line has of each of `coarse`; rows add up to 1."""
    # In whole numbers: the line is fine * coarse long, so that every edge is one.
    starts, coarse_starts = torch.arange(fine) * coarse, (torch.arange(coarse) * fine)[:, None]
    ends, coarse_ends = starts + coarse, coarse_starts + fine
    overlap = torch.minimum(ends, coarse_ends) - torch.maximum(starts, coarse_starts)
    return overlap.clamp(min=0) / fine
