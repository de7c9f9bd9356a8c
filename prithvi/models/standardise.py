"""Standardisation of images from the contract's units, on the device of the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prithvi.contract import Contract


class Standardise(nn.Module):
    """Clips each band, subtracts its mean and divides by its standard deviation, all from the contract.

    Nodata pixels (not finite, or False in `valid`) become the contract's nodata value, which is in standardised units:
    the default 0 is the band mean.
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.contract = contract
        self.mean: Tensor
        self.std: Tensor
        shape = (1, -1, 1, 1, 1)
        # Not part of the state dict: the contract, which is saved with the weights, is their only source.
        self.register_buffer("mean", torch.tensor(contract.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(contract.std).view(shape), persistent=False)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, band, T, Y, X) float32 standardised images.

        Args:
            images: (B, band, T, Y, X) values in the contract's units, of any numeric type.
            valid: (B, T, Y, X) bool, False at nodata pixels; values that are not finite are nodata in any case.

        """
        x = images.to(torch.float32)
        present = torch.isfinite(x)
        if valid is not None:
            present = present & valid.unsqueeze(1)
        if self.contract.clip is not None:
            x = x.clamp(*self.contract.clip)
        x = (x - self.mean) / self.std
        return torch.where(present, x, self.contract.nodata)

    def undo(self, images: Tensor) -> Tensor:
        """(B, band, T, Y, X) standardised images in the contract's units again."""
        return images * self.std + self.mean
