"""Blended windows: no seam, no shift, no dependence on batches, and the same as doing it all in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prithvi.contract import Contract
from prithvi.mapping.blend import blend
from prithvi.windows import WindowPlan, blend_weights, plan

CONTRACT = Contract(("red",), (0.0,), (1.0,), scale=10_000)


def scene_of(pixels: np.ndarray) -> xr.DataArray:
    return xr.DataArray(pixels[None, None].astype(np.float32), dims=("time", "band", "y", "x"), attrs={"gain": 1e-4})


def run(pixels: np.ndarray, layout: WindowPlan, batch_size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A model whose scores are the pixels, and the pixels mirrored in the window: context matters."""

    def predict(images: torch.Tensor, valid: torch.Tensor, middles: list[tuple[float, float]]) -> torch.Tensor:
        assert images.shape[1:] == (1, 1, layout.window, layout.window)
        value = images.nan_to_num(0)[:, 0, 0]
        return torch.stack([value, value.flip(-1), value.flip(-2)], dim=1)

    rows = list(blend(scene_of(pixels), CONTRACT, predict, layout, batch_size))
    assert [r.start for r in rows] == list(np.cumsum([0] + [r.valid.shape[0] for r in rows[:-1]]))
    scores = [r.scores if len(r.scores) else np.zeros((3, *r.valid.shape), np.float32) for r in rows]
    return np.concatenate(scores, axis=1), np.concatenate([r.valid for r in rows])


def in_memory(pixels: np.ndarray, layout: WindowPlan) -> np.ndarray:
    """The same, written as plainly as possible in float64."""
    height, width, size = *pixels.shape, layout.window
    padded = np.pad(pixels, ((0, max(0, size - height)), (0, max(0, size - width))), mode="reflect")
    total, weight = np.zeros((3, *padded.shape)), np.zeros(padded.shape)
    weights = blend_weights(size).astype(np.float64)
    for row in layout.rows:
        for column in layout.columns:
            here = np.s_[row : row + size, column : column + size]
            if np.isnan(padded[here]).all():
                continue
            value = np.nan_to_num(padded[here])
            total[(slice(None), *here)] += np.stack([value, value[:, ::-1], value[::-1]]) * weights
            weight[here] += weights
    return (total / np.where(weight > 0, weight, 1))[:, :height, :width]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(2, 70), st.integers(2, 70), st.integers(2, 32), st.data())
def test_rolling_bands_equal_whole_arrays(height: int, width: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = rng.random((height, width))
    if data.draw(st.booleans()):
        pixels[data.draw(st.integers(0, height)) :, data.draw(st.integers(0, width)) :] = np.nan
    layout = plan(height, width, window, stride)
    scores, valid = run(pixels, layout, data.draw(st.integers(1, 5)))
    np.testing.assert_array_equal(valid, np.isfinite(pixels))
    np.testing.assert_allclose(scores, in_memory(pixels, layout), atol=5e-6)


def test_a_constant_model_gives_a_constant_map() -> None:
    layout = plan(100, 130, 32, 16)
    scores, _ = run(np.full((100, 130), 0.7), layout)
    np.testing.assert_allclose(scores, 0.7, atol=1e-6)


def test_no_window_is_shifted() -> None:
    """Each pixel holds its own coordinate; an average over windows that are in place gives it back."""
    y, x = np.mgrid[:90, :75]
    pixels = y * 75.0 + x
    scores, _ = run(pixels / 7000, plan(90, 75, 32, 20))
    np.testing.assert_allclose(scores[0] * 7000, pixels, atol=0.01)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_batches_do_not_matter(batch_size: int) -> None:
    pixels = np.random.default_rng(0).random((64, 200))
    layout = plan(64, 200, 32, 16)
    np.testing.assert_array_equal(run(pixels, layout, batch_size)[0], run(pixels, layout, 3)[0])


def test_windows_without_data_are_not_predicted() -> None:
    calls = 0

    def predict(images: torch.Tensor, valid: torch.Tensor, middles: list[tuple[float, float]]) -> torch.Tensor:
        nonlocal calls
        calls += len(images)
        assert valid.any(dim=(1, 2, 3)).all()
        return torch.zeros(len(images), 2, 16, 16)

    pixels = np.full((64, 64), np.nan)
    pixels[:16, :16] = 1
    rows = list(blend(scene_of(pixels), CONTRACT, predict, plan(64, 64, 16, 16)))
    assert calls == 1
    assert sum(int(r.valid.sum()) for r in rows) == 256
