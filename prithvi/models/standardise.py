"""From contract units to what the encoder sees, on the device the batch is on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prithvi.contract import Contract


class Standardise(nn.Module):
    """Clips, subtracts the mean and divides by the standard deviation of each band, as the contract says.

    Pixels without data (NaN, or False in `valid`) become the contract's nodata value, by default the band mean.
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.contract = contract
        self.mean: Tensor
        self.std: Tensor
        shape = (1, -1, 1, 1, 1)
        # Not saved with the weights: the contract, saved beside them, is the one place these come from.
        self.register_buffer("mean", torch.tensor(contract.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(contract.std).view(shape), persistent=False)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, band, T, Y, X) values of any number type in contract units, to float32.

        Args:
            images: the values.
            valid: (B, T, Y, X) bool, False where there is no data; NaN counts as none in any case.

        """
        x = images.to(torch.float32)
        present = torch.isfinite(x)
        if valid is not None:
            present = present & valid.unsqueeze(1)
        if self.contract.clip is not None:
            x = x.clamp(*self.contract.clip)
        x = (x - self.mean) / self.std
        return torch.where(present, x, self.contract.nodata)
