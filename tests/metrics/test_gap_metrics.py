"""Errors of filled gaps against scikit-image and a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prithvi.metrics import GapMetrics, ssim_map

BANDS = ["red", "nir_narrow"]


def images(seed: int = 0, count: int = 3, size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    truth = torch.rand(count, 2, size, size, generator=random) * 0.6
    predicted = truth + 0.1 * torch.randn(truth.shape, generator=random)
    hidden = torch.rand(count, size, size, generator=random) < 0.4
    return predicted, truth, hidden


def measured(predicted: torch.Tensor, truth: torch.Tensor, hidden: torch.Tensor) -> dict[str, float]:
    metrics = GapMetrics(BANDS)
    for row in range(len(truth)):  # in parts, as batches come
        metrics.update(predicted[row : row + 1], truth[row : row + 1], hidden[row : row + 1])
    return {name: float(value) for name, value in metrics.compute().items()}


def test_ssim_is_that_of_scikit_image_when_everything_is_hidden() -> None:
    theirs = pytest.importorskip("skimage.metrics", reason="scikit-image comes with the extra 'dev'")
    predicted, truth, _ = images()
    found = measured(predicted, truth, torch.ones(3, 24, 24, dtype=torch.bool))
    expected = np.mean([
        theirs.structural_similarity(
            p.double().clamp(0, 1).numpy(), t.double().clamp(0, 1).numpy(), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1.0, channel_axis=0,
        )
        for p, t in zip(predicted, truth, strict=True)
    ])  # fmt: skip
    assert abs(found["ssim"] - expected) < 1e-9
    assert abs(found["ssim_published"] - expected) < 1e-9


def test_masked_ssim_is_that_of_a_loop_over_pixels() -> None:
    predicted, truth, hidden = images()
    similarity, counted = ssim_map(predicted, truth, hidden.unsqueeze(1))
    steps = np.arange(-5, 6)
    gauss = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * 1.5**2))
    p, t = (value.double().clamp(0, 1).numpy() for value in (predicted, truth))
    for image, band, y, x in [(0, 0, 5, 5), (1, 1, 12, 9), (2, 0, 18, 18)]:
        square = (image, slice(y - 5, y + 6), slice(x - 5, x + 6))
        weight = gauss * hidden.numpy()[square]
        weight = weight / weight.sum()
        a, b = (value[image, band][square[1:]] for value in (p, t))
        mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
        var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
        both = (weight * (a - mean_a) * (b - mean_b)).sum()
        expected = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
        expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
        assert abs(float(similarity[image, band, y - 5, x - 5]) - expected) < 1e-9
    assert torch.equal(counted[:, 0], hidden[:, 5:-5, 5:-5])


def test_errors_are_those_of_a_loop_and_sorted_by_share() -> None:
    predicted, truth, hidden = images()
    hidden[0] = False
    hidden[0, :3, :4] = True  # 2 %
    found = measured(predicted, truth, hidden)
    differences = [[], []]
    for image in range(3):
        for y in range(24):
            for x in range(24):
                if hidden[image, y, x]:
                    for band in range(2):
                        differences[band].append(float(predicted[image, band, y, x] - truth[image, band, y, x]))
    assert abs(found["mae_red"] - np.abs(differences[0]).mean()) < 1e-7
    assert abs(found["rmse_nir_narrow"] - np.sqrt(np.mean(np.square(differences[1])))) < 1e-7
    assert abs(found["mae"] - np.abs(differences).mean()) < 1e-7
    assert abs(found["rmse"] - np.sqrt(np.mean(np.square(differences)))) < 1e-7
    alone = measured(predicted[:1], truth[:1], hidden[:1])
    assert found["mae_0-20%"] == alone["mae"]
    assert "mae_80-100%" not in found


def test_a_visible_pixel_changes_nothing_and_a_hidden_one_does() -> None:
    predicted, truth, hidden = images()
    before = measured(predicted, truth, hidden)
    for where, same in ((~hidden, True), (hidden, False)):
        place = where[1].nonzero()[0]
        changed = predicted.clone()
        changed[1, :, place[0], place[1]] += 0.3
        # The published definition zeroes what is visible before it compares, so that a change there is gone too ...
        assert (measured(changed, truth, hidden) == before) == same
        missing = truth.clone()
        missing[1, :, place[0], place[1]] = torch.nan
        if same:
            assert measured(predicted, missing, hidden) == before
    # ... but how much is visible changes it: with more clear sky the same errors look better.
    columns = torch.arange(24).expand(3, 24, 24)
    shares = [measured(predicted, truth, columns < width)["ssim_published"] for width in (24, 16, 8)]
    assert shares == sorted(shares)


def test_nothing_hidden_and_images_smaller_than_a_window_give_no_figure_but_no_error() -> None:
    predicted, truth, hidden = images(size=8)
    found = measured(predicted, truth, hidden)
    assert np.isnan(found["ssim"])
    assert found["mae"] > 0
    assert np.isnan(measured(predicted, truth, torch.zeros_like(hidden))["mae"])
