"""What needs no model fills hidden pixels as it says, and errors are counted over them alone."""

from __future__ import annotations

import numpy as np
import torch

from prithvi.models import build
from tests.conftest import benchmark

measured = benchmark("reconstruction_errors")


def test_the_visible_mean_is_by_band_and_date() -> None:
    image = np.arange(2 * 2 * 4 * 4, dtype=np.float32).reshape(2, 2, 4, 4)
    seen = np.zeros((2, 4, 4), bool)
    seen[0, :2] = True
    found = measured.visible_mean(image, seen)
    np.testing.assert_allclose(found[:, 0, 3, 3], image[:, 0, :2].mean(axis=(1, 2)))
    np.testing.assert_allclose(found[:, 1, 0, 0], image[:, 0, :2].mean(axis=(1, 2)))  # a date without any: over all


def test_interpolation_of_a_plane_is_exact_inside_and_nearest_outside() -> None:
    rows, columns = np.mgrid[:16, :16].astype(np.float32)
    image = np.stack([2 * rows + 3 * columns + 1, rows - columns])[:, None]
    seen = np.random.default_rng(0).random((1, 16, 16)) < 0.3
    seen[0, [0, 0, -1, -1], [0, -1, 0, -1]] = True
    np.testing.assert_allclose(measured.interpolated(image, seen), image, atol=1e-3)
    half = np.zeros((1, 16, 16), bool)
    half[:, :, :8] = True
    np.testing.assert_allclose(measured.interpolated(image, half)[:, 0, 5, 12], image[:, 0, 5, 7], atol=1e-3)


def test_the_other_dates_mean_is_of_those_that_show_the_pixel() -> None:
    image = np.array([1.0, 5.0, 9.0], np.float32).reshape(1, 3, 1, 1).repeat(2, axis=3)
    seen = np.array([[[True, False]], [[False, True]], [[True, False]]])
    np.testing.assert_allclose(measured.other_dates_mean(image, seen)[0, :, 0, 0], 5.0)  # (1 + 9) / 2
    np.testing.assert_allclose(measured.other_dates_mean(image, seen)[0, :, 0, 1], 5.0)


def test_errors_are_over_hidden_clear_pixels_and_in_reflectance() -> None:
    torch.manual_seed(0)
    mae = build(
        "prithvi_hls_tiny", img_size=16, embed_dim=32, depth=1, num_heads=2, decoder_embed_dim=32, decoder_depth=1,
        mean=(1000.0,) * 6, std=(500.0,) * 6, clip=None,
        blend_fill=False,
    )  # fmt: skip
    with torch.no_grad():
        mae.decoder.decoder_pred.weight.zero_()
        mae.decoder.decoder_pred.bias.zero_()  # predicts the band mean everywhere
    batch = {
        "image": torch.full((2, 6, 2, 16, 16), 1300, dtype=torch.int16),
        "valid": torch.ones(2, 2, 16, 16, dtype=torch.bool),
        "clear": torch.ones(2, 2, 16, 16, dtype=torch.bool),
        "temporal_coords": torch.full((2, 2, 2), torch.nan),
        "location_coords": torch.full((2, 2), torch.nan),
    }
    for block in (None, 8):
        errors = measured.reconstruction_errors(mae, [batch], block=block)
        assert abs(errors["model"]["mae"] - 0.03) < 1e-6
        assert errors["mean of the visible patches"]["mae"] < 1e-6
        assert errors[measured.FILLING]["mae"] < 1e-6
    batch["image"][0] = 9000  # what is not clear does not count
    batch["clear"][0] = False
    errors = measured.reconstruction_errors(mae, [batch])
    assert abs(errors["model"]["rmse"] - 0.03) < 1e-6
    batch["valid"][:, 1] = False  # a sample of one date has no other dates
    assert "mean of the other dates" not in measured.reconstruction_errors(mae, [batch])
