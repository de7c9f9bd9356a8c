from __future__ import annotations

import numpy as np
import pytest
import torch

from prithvi.errors import ConfigError
from prithvi.metrics import IGNORE, SegmentationMetrics


def test_figures_equal_counting_by_hand() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(-1, 3, (2, 4, 50, 40))[0], rng.integers(0, 3, (4, 50, 40))
    metrics = SegmentationMetrics(["a", "b", "c"])
    for t, s in zip(truth, said, strict=True):  # several batches
        metrics.update(torch.from_numpy(s[None]), torch.from_numpy(t[None]))
    found = {key: float(value) for key, value in metrics.compute().items()}
    use = truth != IGNORE
    ious = []
    for number, name in enumerate("abc"):
        hit = ((truth == number) & (said == number) & use).sum()
        union = (((truth == number) | (said == number)) & use).sum()
        assert found[f"IoU_{name}"] == pytest.approx(hit / union)
        assert found[f"F1_{name}"] == pytest.approx(2 * hit / (union + hit))
        ious.append(hit / union)
    assert found["mIoU"] == pytest.approx(np.mean(ious))
    assert found["aAcc"] == pytest.approx((truth == said)[use].mean())


def test_a_class_that_does_not_occur_enters_no_mean() -> None:
    metrics = SegmentationMetrics(["a", "b", "c"])
    metrics.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 0]]))
    found = metrics.compute()
    assert torch.isnan(found["IoU_c"])
    assert float(found["mIoU"]) == pytest.approx(0.5)


def test_ignored_pixels_change_nothing() -> None:
    metrics = SegmentationMetrics(["a", "b"])
    metrics.update(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, IGNORE, IGNORE]]))
    assert float(metrics.compute()["mIoU"]) == 1


def test_one_class_is_no_segmentation() -> None:
    with pytest.raises(ConfigError, match="at least two classes"):
        SegmentationMetrics(["water"])
