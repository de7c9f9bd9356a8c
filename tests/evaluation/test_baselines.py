from __future__ import annotations

import numpy as np
import pytest
import rasterio

from prithvi.errors import DatasetError
from prithvi.evaluation import IndexThreshold
from tests.conftest import SPAIN_LABEL


def iou(said: np.ndarray, truth: np.ndarray, use: np.ndarray) -> float:
    return float((said & truth & use).sum() / ((said | truth) & use).sum())


def test_the_threshold_is_the_best_there_is() -> None:
    rng = np.random.default_rng(1)
    green, swir = rng.integers(1, 40, (2, 30, 30)).astype(float)  # many equal values
    water = (green - swir + rng.normal(0, 8, green.shape)) > 0
    labelled = rng.random(green.shape) > 0.1
    fitted = IndexThreshold.fit(green, swir, water, labelled)
    best = max(
        iou(IndexThreshold.mndwi(green, swir) > level, water, labelled)
        for level in np.unique(IndexThreshold.mndwi(green, swir)) - 1e-9
    )
    assert iou(fitted.predict(green, swir), water, labelled) == pytest.approx(best)


def test_the_sample_gives_the_figure_measured_beforehand(six_bands: np.ndarray) -> None:
    """Fitted on the left 330 columns, water IoU .78 on columns 352 and up."""
    with rasterio.open(SPAIN_LABEL) as raster:
        label = raster.read(1)
    green, swir = six_bands[1].astype(float), six_bands[4].astype(float)
    left, right = np.s_[:, :330], np.s_[:, 352:]
    fitted = IndexThreshold.fit(green[left], swir[left], label[left] == 1, label[left] >= 0)
    found = iou(fitted.predict(green, swir)[right], label[right] == 1, label[right] >= 0)
    assert found == pytest.approx(0.78, abs=0.005)


def test_a_threshold_needs_both_classes() -> None:
    ones = np.ones((2, 2))
    with pytest.raises(DatasetError, match="both water and land"):
        IndexThreshold.fit(ones, ones, np.ones((2, 2), bool), np.ones((2, 2), bool))
