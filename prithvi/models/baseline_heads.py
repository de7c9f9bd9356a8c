"""Baselines as heads: a threshold of an index, and linear classifiers of image statistics and of random features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.errors import InapplicableError, ModelError, one_of
from prithvi.models.baseline import BaselineHead, check_classes
from prithvi.models.heads import register_head
from prithvi.models.pixel_features import RandomFeatures, surroundings


@register_head("index")
class IndexHead(BaselineHead):
    """Two classes on either side of a threshold of a normalised difference of two bands, on one date.

    Args:
        args: see `BaselineHead`.
        pair: the two bands; default those of the five indices of `pixel_features` that do best.
        positive: the class whose IoU is to be the highest; default the mean over both.
        above: whether that class (default: the second one) lies above the threshold; default what does better.
        options: see `BaselineHead`.

    """

    pixels: ClassVar[bool] = True

    def __init__(
        self, *args: Any, pair: list[str] | None = None, positive: str | None = None, above: bool | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **options)
        if self.num_outputs != 2 or self.num_frames != 1:
            raise InapplicableError(
                f"an index and a threshold tell two classes on one date; these data have {self.num_outputs} classes "
                f"and {self.num_frames} date{'s' if self.num_frames > 1 else ''}."
            )
        if pair is not None:
            if len(pair) != 2:
                raise ModelError(f"an index is of two bands; found {pair}.")
            first, second = (self.bands.index(one_of(band, self.bands, "there is no band")) for band in pair)
            self.pairs = {"-".join(pair): (first, second)}
        if not self.pairs:
            raise InapplicableError(f"no index is known of the bands {', '.join(self.bands)}: say pair.")
        self.positive, self.above = positive, above
        self.options |= {"pair": pair, "positive": positive, "above": above}
        self.threshold: Tensor
        self.slope: Tensor
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("slope", torch.ones(()))

    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, index, Y, X) of the indices in question: after the fit one."""
        return self.indices_of(self.dates_of(features), list(self.pairs.values()))[:, 0]

    def classify(self, rows: Tensor) -> Tensor:
        """(N, 1) index to logits: 0, and the distance of the second class's side from the threshold."""
        distance = ((rows[:, 0] - self.threshold) * self.slope).nan_to_num()
        return torch.stack([torch.zeros_like(distance), distance], dim=1)

    def fit_to(self, rows: Tensor, label: Tensor, classes: Sequence[str], weights: Tensor, seed: int) -> dict[str, Any]:
        """See `BaselineHead.fit_to`; takes the best of all indices, directions and thresholds."""
        check_classes(label)
        names = list(classes)
        of = 1 if self.positive is None else names.index(one_of(self.positive, names, "there is no class"))
        truth = (label == of).numpy()
        found = []
        for column, (name, pair) in enumerate(self.pairs.items()):
            values = rows[:, column].double().numpy()
            known = np.isfinite(values)
            for above in (True, False) if self.above is None else (self.above,):
                threshold, score = best_threshold(values[known], truth[known], above, self.positive is None)
                found.append((score, name, pair, above, threshold))
        score, name, pair, above, threshold = max(found, key=lambda entry: entry[0])
        column = list(self.pairs).index(name)
        spread = float(rows[:, column][rows[:, column].isfinite()].std()) or 1.0
        self.threshold.fill_(threshold)
        self.slope.fill_((1 if above == (of == 1) else -1) / spread)
        self.pairs = {name: pair}
        self.options |= {"pair": [self.bands[place] for place in pair], "above": above}
        first, second = self.options["pair"]
        what = f"IoU of {names[of]}" if self.positive is not None else "mean IoU"
        told = f"{names[of]} is where {name} ({first}, {second}) is {'above' if above else 'below'} {threshold:.4g}"
        return {"fitted": f"{told}; {what} {score:.3f} on the training pixels, the best of {len(found)} rules"}


def best_threshold(
    values: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.bool_], above: bool = True, both: bool = False
) -> tuple[float, float]:
    """The threshold of some values with the highest IoU, of all that separate them differently.

    Args:
        values: finite values.
        truth: True at those of the class.
        above: whether the class is above the threshold.
        both: take the mean of the IoU of the class and of that of all else.

    Returns:
        The threshold, and that IoU.

    """
    # Values are sorted from the most to the least likely ones, so that each prefix is the set predicted by one
    # threshold, and its IoU follows from a running count of hits.
    values = values if above else -values
    order = np.argsort(values)[::-1]
    hits, said = np.cumsum(truth[order]), np.arange(1, len(order) + 1)
    union = said + truth.sum() - hits
    iou = hits / union
    if both:
        rest = len(order) - union  # rightly not said
        iou = (iou + rest / np.maximum(len(order) - hits, 1)) / 2
    iou[:-1][np.diff(values[order]) == 0] = 0  # no threshold separates equal values
    best = int(iou.argmax())
    below = values[order[best + 1]] if best + 1 < len(order) else values[order[best]] - 1e-6
    threshold = float((values[order[best]] + below) / 2)
    return threshold if above else -threshold, float(iou[best])


class LinearHead(BaselineHead):
    """A linear classifier (multinomial logistic regression) of a pixel's features."""

    pixels: ClassVar[bool] = True
    pixel_limit: ClassVar[int] = 100_000
    centre: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.described = self.build()
        for name, size in (("centre", (self.described,)), ("scale", (self.described,)), ("bias", (self.num_outputs,))):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("weight", torch.zeros(self.num_outputs, self.described))

    @abstractmethod
    def build(self) -> int:
        """Makes what `describe` needs, and says how many features that gives."""

    def classify(self, rows: Tensor) -> Tensor:
        """(N, F) features to (N, outputs) logits; a missing feature counts as the mean."""
        standard = ((rows - self.centre) * self.scale).nan_to_num(0, 0, 0)
        return F.linear(standard, self.weight, self.bias)

    def fit_to(self, rows: Tensor, label: Tensor, classes: Sequence[str], weights: Tensor, seed: int) -> dict[str, Any]:
        """See `BaselineHead.fit_to`."""
        check_classes(label)
        self.centre.copy_(rows.nanmean(dim=0).nan_to_num())
        spread = (rows - self.centre).nan_to_num().square().mean(dim=0).sqrt()
        self.scale.copy_(torch.where(spread > 1e-6, 1 / spread, 0))
        standard = ((rows - self.centre) * self.scale).nan_to_num(0, 0, 0)
        weight = torch.zeros_like(self.weight, requires_grad=True)
        bias = torch.zeros_like(self.bias, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(standard, weight, bias), label, weights)
            loss = loss + weight.square().sum() * 1e-4  # keeps features that say the same from growing
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        self.weight.copy_(weight.detach())
        self.bias.copy_(bias.detach())
        return {"fitted": f"logistic regression on {self.described} features of {len(rows):,} pixels"}


@register_head("image_statistics")
class StatisticsHead(LinearHead):
    """Bands and indices, and mean, standard deviation, minimum and maximum around each pixel; a linear classifier.

    Args:
        args: see `BaselineHead`.
        side: of the square around a pixel.
        options: see `BaselineHead`.

    """

    def __init__(self, *args: Any, side: int = 9, **options: Any) -> None:
        self.side = side
        super().__init__(*args, **options)
        self.options["side"] = side

    def build(self) -> int:
        """See `LinearHead.build`."""
        if self.side < 1 or self.side % 2 == 0:
            raise ModelError(f"side is {self.side}: it must be an odd number of pixels.")
        small = torch.zeros(1, self.num_frames * len(self.bands), 2, 2)
        return self.describe(small, (2, 2)).shape[1]

    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, Y, X)."""
        return torch.cat([self.bands_and_indices(features), surroundings(features, self.side)], dim=1)


@register_head("random_features")
class RandomFeaturesHead(LinearHead):
    """Random convolutions of the image, and a linear classifier of them.

    Args:
        args: see `BaselineHead`.
        number: of the features.
        options: see `BaselineHead`.

    """

    def __init__(self, *args: Any, number: int = 256, **options: Any) -> None:
        self.number = number
        super().__init__(*args, **options)
        self.options["number"] = number

    def build(self) -> int:
        """See `LinearHead.build`."""
        if not 2 <= self.number <= 10_000:
            raise ModelError(f"number is {self.number}: it must be 2 to 10,000 features.")
        self.filters = RandomFeatures(self.num_frames * len(self.bands), self.number)
        return self.number

    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, Y, X)."""
        found: Tensor = self.filters(features)
        return found
