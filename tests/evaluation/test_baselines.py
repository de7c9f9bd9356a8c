from __future__ import annotations

import numpy as np
import pytest
import rasterio

from prithvi.errors import DatasetError
from prithvi.evaluation import IndexThreshold, PixelTrees, normalised_difference
from tests.conftest import SPAIN_LABEL, needs_baselines


def iou(said: np.ndarray, truth: np.ndarray, use: np.ndarray) -> float:
    return float((said & truth & use).sum() / ((said | truth) & use).sum())


@pytest.mark.parametrize("above", [True, False])
def test_the_threshold_is_the_best_there_is(above: bool) -> None:
    rng = np.random.default_rng(1)
    green, swir = rng.integers(1, 40, (2, 30, 30)).astype(float)  # many equal values
    water = ((green - swir + rng.normal(0, 8, green.shape)) > 0) == above
    labelled = rng.random(green.shape) > 0.1
    index = normalised_difference(green, swir)
    fitted = IndexThreshold.fit(index, water, labelled, above)
    levels = np.unique(index) - 1e-9
    best = max(iou((index > level) == above, water, labelled) for level in levels)
    assert iou(fitted.predict(index), water, labelled) == pytest.approx(best)


def test_the_sample_gives_the_figure_measured_beforehand(six_bands: np.ndarray) -> None:
    """Fitted on the left 330 columns, water IoU .78 on columns 352 and up."""
    with rasterio.open(SPAIN_LABEL) as raster:
        label = raster.read(1)
    index = normalised_difference(six_bands[1].astype(float), six_bands[4].astype(float))
    left, right = np.s_[:, :330], np.s_[:, 352:]
    fitted = IndexThreshold.fit(index[left], label[left] == 1, label[left] >= 0)
    found = iou(fitted.predict(index)[right], label[right] == 1, label[right] >= 0)
    assert found == pytest.approx(0.78, abs=0.005)


@needs_baselines
def test_trees_find_water_on_the_sample_from_its_left_to_its_right(six_bands: np.ndarray) -> None:
    with rasterio.open(SPAIN_LABEL) as raster:
        label = raster.read(1).astype(np.int64)
    image = six_bands.astype(np.float32)[:, ::2, ::2]
    label = label[::2, ::2]
    left, right = np.s_[..., :110], np.s_[..., 176:]
    trees = PixelTrees().fit(image[left], label[left], label[left] >= 0)
    assert iou(trees.predict(image[right]) == 1, label[right] == 1, label[right] >= 0) > 0.7


@needs_baselines
def test_both_need_two_classes() -> None:
    ones = np.ones((2, 2))
    with pytest.raises(DatasetError, match="of the class and of what it is not"):
        IndexThreshold.fit(ones, np.ones((2, 2), bool), np.ones((2, 2), bool))
    with pytest.raises(DatasetError, match="two classes or more"):
        PixelTrees().fit(ones[None], np.ones((2, 2), np.int64), np.ones((2, 2), bool))
