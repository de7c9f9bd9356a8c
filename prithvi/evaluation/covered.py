"""Evaluation of gap-filling methods without a model, on the same pixels under the same clouds as a model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from prithvi.data import GapDataModule
from prithvi.errors import ConfigError, nearest
from prithvi.mapping.methods import GAP_METHODS, days_of
from prithvi.metrics import GapMetrics
from prithvi.tasks import GapFillTask


def gap_trial(task: GapFillTask, data: GapDataModule, method: str) -> dict[str, float]:
    """Metrics of a method of `GAP_METHODS` on the test split.

    Args:
        task: the task whose artificial clouds are used, drawn exactly as in its own evaluation.
        data: time series and clouds.
        method: a key of `GAP_METHODS`; pixels that it cannot fill get the mean of the band's known pixels.

    Raises:
        ConfigError: an unknown method.

    """
    if method not in GAP_METHODS:
        raise ConfigError(f"there is no method {method!r} of filling gaps: {nearest(method, GAP_METHODS)}")
    metrics = GapMetrics(task.contract.bands)
    for loader in data.test_dataloader():
        for number, batch in enumerate(loader):
            images, known, counts = task.covered(batch, task.test_generator(number), training=False)
            truth = task.reflectance(images)
            for sample in range(len(images)):
                image, there = truth[sample].numpy(), known[sample].numpy()
                filled = GAP_METHODS[method](image, there, days_of(batch["temporal_coords"][sample].numpy()))
                filled = np.where(np.isnan(filled), _means(image, there), filled).astype(np.float32)
                predicted = torch.from_numpy(filled).transpose(0, 1)
                metrics.update(predicted, truth[sample].transpose(0, 1), counts[sample])
    return {name: float(value) for name, value in metrics.compute().items()}


def _means(image: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(band, 1, 1, 1) means over known pixels; 0 if there are none."""
    means = [band[known].mean() if known.any() else 0.0 for band in image]
    return np.array(means, np.float32)[:, None, None, None]
