"""Trials of per-pixel baselines (index threshold, gradient boosting) on the splits of a data module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from prithvi.contract import IGNORE, Contract
from prithvi.data import ChipDataModule
from prithvi.data.order import subset
from prithvi.errors import ConfigError, nearest
from prithvi.evaluation.baselines import IndexThreshold, PixelTrees, normalised_difference
from prithvi.metrics import SegmentationMetrics

PIXELS = 500_000
"""Upper limit of labelled pixels to fit on, in equal numbers from all chips."""

Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


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
    predict = _trees(pixels, label, seed) if settings["baseline"] == "trees" else None
    if predict is None:
        predict = _index(pixels, label, data.contract, classes, settings)
    metrics = SegmentationMetrics(classes)
    for sample in _samples(data.source.dataset(data.names["test"])):
        values, truth = _values(sample), _truth(sample)
        metrics.update(torch.from_numpy(predict(values).reshape(truth.shape)), torch.from_numpy(truth))
    return {name: float(value) for name, value in metrics.compute().items()}


def _samples(dataset: Any) -> Iterable[dict[str, Any]]:
    return (dataset[index] for index in range(len(dataset)))


def _values(sample: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """(T*band, pixels) values, NaN at nodata."""
    image = np.where(sample["valid"].numpy()[None], sample["image"].numpy().astype(np.float32), np.nan)
    return cast("npt.NDArray[np.float32]", image.swapaxes(0, 1).reshape(-1, image.shape[-2] * image.shape[-1]))


def _truth(sample: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """(Y, X) class numbers, `IGNORE` where unlabelled or without data at all dates."""
    label = np.where(sample["valid"].numpy().any(axis=0), sample["label"].numpy(), IGNORE)
    return label.astype(np.int64)


def _drawn(
    samples: Iterable[dict[str, Any]], chips: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(T*band, pixels) values and (pixels,) classes of a sample of labelled pixels, the same number per chip."""
    # Equal numbers from each chip: otherwise a few fully labelled chips would dominate the sample.
    generator, each = np.random.default_rng(seed), max(1, PIXELS // chips)
    values, labels = [], []
    for sample in samples:
        truth = _truth(sample).ravel()
        here = np.flatnonzero(truth != IGNORE)
        here = generator.choice(here, each, replace=False) if len(here) > each else here
        values.append(_values(sample)[:, here])
        labels.append(truth[here])
    return np.concatenate(values, axis=1), np.concatenate(labels)


def _trees(pixels: npt.NDArray[np.float32], label: npt.NDArray[np.int64], seed: int) -> Predict:
    trees = PixelTrees(seed).fit(pixels[:, None], label[None], np.ones((1, len(label)), dtype=bool))
    return lambda values: trees.predict(values[:, None])


def _index(
    pixels: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64],
    contract: Contract,
    classes: list[str],
    settings: Mapping[str, Any],
) -> Predict:
    if len(classes) != 2 or len(pixels) != len(contract.bands):
        raise ConfigError(
            f"an index and a threshold tell two classes on one date; these data have {len(classes)} classes and "
            f"{len(pixels) // len(contract.bands)} dates."
        )
    if settings["positive"] not in classes:
        raise ConfigError(f"there is no class {settings['positive']!r}: {nearest(str(settings['positive']), classes)}")
    positive = classes.index(settings["positive"])
    rows = [contract.bands.index(band) if band in contract.bands else -1 for band in settings["bands"]]
    if len(rows) != 2 or -1 in rows:
        raise ConfigError(f"an index is of two bands of {', '.join(contract.bands)}; found {settings['bands']}.")

    def index(values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        return normalised_difference(values[rows[0]], values[rows[1]])

    known = np.ones(len(label), dtype=bool)
    rule = IndexThreshold.fit(index(pixels), label == positive, known, above=bool(settings["above"]))
    return lambda values: np.where(rule.predict(index(values)), positive, 1 - positive)
