"""The base of heads that are fitted at once, without gradient steps.

Such a head describes every pixel by some features (`pixel_features`) and classifies these alone. `fit_to` fits it to
labelled pixels, and from then on it is a head as any other: it has weights, a model folder, maps.

It has the trait `fitted`, and is built with `input`, which says what its pixels are: `bands`, and the `mean`, `std`
and `nodata` that they were standardised with, since an index is of reflectance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from prithvi.errors import DatasetError, ModelError
from prithvi.models.pixel_features import normalised_differences, over_time, pairs_of


class BaselineHead(nn.Module, ABC):
    """What all baselines share: their input, and logits pixel by pixel.

    Args:
        channels: number of bands, or of the encoder's channels (see `prithvi.models.heads`).
        num_frames: number of dates.
        patch: side of a patch.
        num_outputs: number of classes.
        input: see above.

    """

    fitted: ClassVar[bool] = True
    concurrent: ClassVar[bool] = True
    pixel_limit: ClassVar[int] = 500_000
    """The most pixels that are worth fitting it to."""

    def __init__(
        self, channels: int, num_frames: int, patch: int, num_outputs: int, input: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if input is None:
            raise ModelError("a baseline needs input=: bands, mean, std and nodata of the pixels it is given.")
        self.bands, self.num_frames, self.num_outputs = list(input["bands"]), num_frames, num_outputs
        self.nodata = float(input["nodata"])
        self.options: dict[str, Any] = {"input": dict(input)}
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = torch.tensor(input[name], dtype=torch.float32).view(1, 1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.pairs = pairs_of(self.bands)

    def dates_of(self, pixels: Tensor) -> Tensor:
        """(B, T*band, Y, X) to (B, T, band, Y, X), NaN on dates without data."""
        count, _, height, width = pixels.shape
        dates = pixels.reshape(count, self.num_frames, len(self.bands), height, width)
        # What has no data was given this value in all bands by the standardisation.
        return torch.where((dates == self.nodata).all(dim=2, keepdim=True), torch.nan, dates)

    def indices_of(self, dates: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """(B, T, index, Y, X) normalised differences of standardised dates."""
        return normalised_differences(dates * self.std + self.mean, pairs)

    def bands_and_indices(self, pixels: Tensor) -> Tensor:
        """(B, T*(band + index), Y, X), and with several dates their statistics over time; NaN without data."""
        dates = self.dates_of(pixels)
        if self.pairs:
            dates = torch.cat([dates, self.indices_of(dates, list(self.pairs.values()))], dim=2)
        parts = [dates, over_time(dates)] if self.num_frames > 1 else [dates]
        return torch.cat([part.flatten(1, 2) for part in parts], dim=1)

    def prepare(self, features: Sequence[Tensor]) -> None:
        """Is shown what the head gets of some of the training chips, before pixels are drawn."""

    @abstractmethod
    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, *size) features of each pixel, of what the head gets."""

    @abstractmethod
    def classify(self, rows: Tensor) -> Tensor:
        """(N, F) features of pixels to (N, outputs) logits."""

    @abstractmethod
    def fit_to(self, rows: Tensor, label: Tensor, classes: Sequence[str], weights: Tensor, seed: int) -> dict[str, Any]:
        """Fits the head to pixels.

        Args:
            rows: (N, F) features as `describe` gives them.
            label: (N,) class numbers.
            classes: names of the classes.
            weights: (classes,) weight of each class in the loss, where there is one.
            seed: of what is drawn.

        Returns:
            What was found, for the record of how the model was made.

        Raises:
            InapplicableError: such a baseline cannot be made of these data.
            DatasetError: fewer than two classes are among the labels.

        """

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, outputs, *size) logits of what the head gets (see `prithvi.models.heads`)."""
        described = self.describe(features, size)
        scores = self.classify(described.movedim(1, -1).flatten(0, 2))
        # Not `len`, by which an exported program would be for this number of windows alone.
        return scores.reshape(features.shape[0], *size, self.num_outputs).movedim(-1, 1)


def check_classes(label: Tensor) -> None:
    """Raises DatasetError unless labels are of two classes or more."""
    if not (label != label[0]).any():
        raise DatasetError("a baseline needs labelled pixels of two classes or more.")
