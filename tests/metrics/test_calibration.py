"""Calibration against a loop over pixels, and a temperature that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prithvi.errors import DatasetError
from prithvi.metrics import IGNORE, CalibrationMetric, TemperatureMetric, fit_temperature


def drawn(temperature: float, count: int = 40_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores that are `temperature` times too sure of themselves, and labels drawn by what they should say."""
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(count, 3, generator=random) * 2
    label = torch.multinomial(scores.softmax(dim=1), 1, generator=random).squeeze(1)
    return scores * temperature, label


def test_the_error_is_that_of_a_loop_over_pixels() -> None:
    scores, label = drawn(2.0, 600)
    label[::7] = IGNORE
    metric = CalibrationMetric()
    for part in range(3):
        square = slice(200 * part, 200 * part + 200)
        metric.update(scores[square].T.reshape(1, 3, 10, 20), label[square].reshape(1, 10, 20))
    bins = [[] for _ in range(15)]
    for row, true in zip(scores.softmax(dim=1).tolist(), label.tolist(), strict=True):
        if true != IGNORE:
            place = next(number for number in range(15) if max(row) <= (number + 1) / 15)
            bins[place].append((max(row), row.index(max(row)) == true))
    total = sum(len(entries) for entries in bins)
    expected = sum(
        abs(np.mean([c for c, _ in entries]) - np.mean([r for _, r in entries])) * len(entries) / total
        for entries in bins
        if entries
    )
    found = metric.compute()
    assert float(found.error) == pytest.approx(expected, abs=1e-6)
    assert int(found.pixels.sum()) == total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_leaves_nothing_to_mend(temperature: float) -> None:
    scores, label = drawn(temperature)
    found = fit_temperature(scores, label)
    assert found == pytest.approx(temperature, rel=0.05)
    before, after = CalibrationMetric(), CalibrationMetric()
    before.update(scores.T.reshape(1, 3, 200, 200), label.reshape(1, 200, 200))
    after.update((scores / found).T.reshape(1, 3, 200, 200), label.reshape(1, 200, 200))
    assert float(after.compute().error) < 0.01
    if temperature != 1.0:
        assert float(before.compute().error) > 0.05
    assert torch.equal(scores.argmax(1), (scores / found).argmax(1))


def test_batches_and_devices_add_up_to_the_temperature_of_all_pixels() -> None:
    scores, label = drawn(2.0, 6000)
    label[::5] = IGNORE
    one, other = TemperatureMetric(), TemperatureMetric()
    for number, metric in enumerate((one, other, one)):
        part = slice(2000 * number, 2000 * number + 2000)
        metric.update(scores[part].T.reshape(1, 3, 40, 50), label[part].reshape(1, 40, 50))
    for name in ("losses", "pixels", "wrong"):  # what torchmetrics sums over devices
        getattr(one, name).add_(getattr(other, name))
    assert float(one.compute()) == pytest.approx(fit_temperature(scores, label), rel=1e-9)
    assert float(one.pixels) == 4800


def test_a_large_batch_is_thinned_evenly() -> None:
    scores, label = drawn(2.0)
    metric = TemperatureMetric(pixels=10_000)
    metric.update(scores, label)
    assert float(metric.pixels) == 10_000
    assert float(metric.compute()) == pytest.approx(fit_temperature(scores, label), rel=0.05)


def test_pixels_without_a_mistake_make_no_confidence_surer() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(scores, torch.tensor([0, 1])) == 1.0
    assert fit_temperature(scores[:1], torch.tensor([0])) == 1.0  # a single class, and right
    with pytest.raises(DatasetError, match="labelled pixels, and there is none"):
        fit_temperature(scores, torch.tensor([IGNORE, IGNORE]))


def test_temperatures_stay_between_a_twentieth_and_twenty() -> None:
    sure = torch.tensor([[1.0, 0.0]]).repeat(1000, 1)
    often, never = torch.zeros(1000, dtype=torch.int64), torch.ones(1000, dtype=torch.int64)
    often[0] = 1  # right 999 times of 1000: softmax(1 / T) = .999 at T = 1 / ln 999
    assert fit_temperature(sure, often) == pytest.approx(1 / np.log(999), rel=0.01)
    assert fit_temperature(sure, never) == pytest.approx(20)
    assert fit_temperature(0.001 * sure, often) == pytest.approx(0.05)
