"""Trials of methods without training by gradients, on a data module's own splits.

Of single pixels: an index and a threshold, or trees. Of gaps: methods without weights, on the same pixels under the
same clouds as a model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import Metric

from prithvi.contract import IGNORE, Contract
from prithvi.data import ChipDataModule, GapDataModule
from prithvi.data.order import subset
from prithvi.errors import ConfigError, one_of
from prithvi.evaluation.baselines import IndexThreshold, PixelTrees, normalised_difference
from prithvi.mapping.methods import GAP_METHODS, days_of
from prithvi.metrics import GapMetrics, SegmentationMetrics
from prithvi.tasks import GapFillTask

PIXELS = 500_000
"""Upper limit of labelled pixels to fit on, in equal numbers from all chips."""

Values = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
Predict = Callable[[Values], Classes]


def pixel_trial(data: ChipDataModule, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Fits a baseline on the training subset and evaluates it on the test split.

    Args:
        data: the data module, with its splits, training fraction and subset seed.
        settings: settings of the baseline, as in the YAML file of `prithvi.evaluation.compare`.
        seed: seed of the pixel sample and of the trees.

    Raises:
        ConfigError: the baseline is not applicable to the data.

    """
    classes = data.classes
    if classes is None:
        raise ConfigError("baselines on pixels predict classes; these data have a quantity.")
    whole = data.source.dataset(data.names["train"])
    chosen = subset(len(whole), data.fraction, data.subset_seed)
    pixels, label = _drawn((whole[index] for index in chosen), len(chosen), seed)
    trees = settings["baseline"] == "trees"
    predict = _trees(pixels, label, seed) if trees else _index(pixels, label, data.contract, classes, settings)
    metrics, test = SegmentationMetrics(classes), data.source.dataset(data.names["test"])
    for index in range(len(test)):
        sample = test[index]
        values, truth = _values(sample), _truth(sample)
        metrics.update(torch.from_numpy(predict(values).reshape(truth.shape)), torch.from_numpy(truth))
    return _figures(metrics)


def _values(sample: Mapping[str, Any]) -> Values:
    """(T*band, pixels) values, NaN without data."""
    image = np.where(sample["valid"].numpy()[None], sample["image"].numpy().astype(np.float32), np.nan)
    return cast("Values", image.swapaxes(0, 1).reshape(-1, image.shape[-2] * image.shape[-1]))


def _truth(sample: Mapping[str, Any]) -> Classes:
    """(y, x) class numbers, `IGNORE` also without data on any date."""
    label = np.where(sample["valid"].numpy().any(axis=0), sample["label"].numpy(), IGNORE)
    return label.astype(np.int64)


def _drawn(samples: Iterable[dict[str, Any]], chips: int, seed: int) -> tuple[Values, Classes]:
    """(T*band, pixels) values and (pixels,) classes of labelled pixels, as many of each chip."""
    generator, each = np.random.default_rng(seed), max(1, PIXELS // chips)
    values, labels = [], []
    for sample in samples:
        truth = _truth(sample).ravel()
        here = np.flatnonzero(truth != IGNORE)
        here = generator.choice(here, each, replace=False) if len(here) > each else here
        values.append(_values(sample)[:, here])
        labels.append(truth[here])
    return np.concatenate(values, axis=1), np.concatenate(labels)


def _trees(pixels: Values, label: Classes, seed: int) -> Predict:
    trees = PixelTrees(seed).fit(pixels[:, None], label[None], np.ones((1, len(label)), dtype=bool))
    return lambda values: trees.predict(values[:, None])


def _index(
    pixels: Values, label: Classes, contract: Contract, classes: list[str], settings: Mapping[str, Any]
) -> Predict:
    if len(classes) != 2 or len(pixels) != len(contract.bands):
        raise ConfigError(
            f"an index and a threshold tell two classes on one date; these data have {len(classes)} classes and "
            f"{len(pixels) // len(contract.bands)} dates."
        )
    positive = classes.index(one_of(str(settings["positive"]), classes, "there is no class"))
    rows = [contract.bands.index(band) if band in contract.bands else -1 for band in settings["bands"]]
    if len(rows) != 2 or -1 in rows:
        raise ConfigError(f"an index is of two bands of {', '.join(contract.bands)}; found {settings['bands']}.")

    def index(values: Values) -> npt.NDArray[Any]:
        return normalised_difference(values[rows[0]], values[rows[1]])

    known = np.ones(len(label), dtype=bool)
    rule = IndexThreshold.fit(index(pixels), label == positive, known, above=bool(settings["above"]))
    return lambda values: np.where(rule.predict(index(values)), positive, 1 - positive)


def gap_trial(task: GapFillTask, data: GapDataModule, method: str) -> dict[str, float]:
    """The figures of a method of `GAP_METHODS` on the test split.

    Args:
        task: says which dates clouds cover, and draws them as it does for itself.
        data: the series and the clouds.
        method: a key of `GAP_METHODS`. What it cannot fill has the mean of the band's known pixels.

    Raises:
        ConfigError: no such method.

    """
    fill = GAP_METHODS[one_of(method, GAP_METHODS, "there is no method of filling gaps")]
    metrics = GapMetrics(task.contract.bands)
    for loader in data.test_dataloader():
        for number, batch in enumerate(loader):
            images, known, counts = task.covered(batch, task.test_generator(number), training=False)
            truth = task.reflectance(images)
            for sample in range(len(images)):
                image, there = truth[sample].numpy(), known[sample].numpy()
                filled = fill(image, there, days_of(batch["temporal_coords"][sample].numpy()))
                filled = np.where(np.isnan(filled), _means(image, there), filled).astype(np.float32)
                predicted = torch.from_numpy(filled).transpose(0, 1)
                metrics.update(predicted, truth[sample].transpose(0, 1), counts[sample])
    return _figures(metrics)


def _means(image: Values, known: npt.NDArray[np.bool_]) -> Values:
    """(band, 1, 1, 1) means over known pixels; 0 without any."""
    means = [band[known].mean() if known.any() else 0.0 for band in image]
    return np.array(means, np.float32)[:, None, None, None]


def _figures(metrics: Metric) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items()}
