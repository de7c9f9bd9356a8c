"""Trials of methods of gap filling without weights, on the same pixels under the same clouds as a model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from prithvi.data import GapDataModule
from prithvi.errors import one_of
from prithvi.mapping.methods import GAP_METHODS, days_of
from prithvi.metrics import GapMetrics
from prithvi.tasks import GapFillTask

Values = npt.NDArray[np.float32]


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
    return {name: float(value) for name, value in metrics.compute().items()}


def _means(image: Values, known: npt.NDArray[np.bool_]) -> Values:
    """(band, 1, 1, 1) means over known pixels; 0 without any."""
    means = [band[known].mean() if known.any() else 0.0 for band in image]
    return np.array(means, np.float32)[:, None, None, None]
