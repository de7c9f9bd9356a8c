"""Gaps of a series in memory, filled."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.ndimage import zoom

import prithvi
from benchmarks.flood_scene import read_sample
from benchmarks.suite.jobs import Work
from prithvi.bands import PRITHVI_BANDS

DATES, MISSING, COARSE = 8, 0.4, 64


def smooth(random: np.random.Generator, side: int) -> np.ndarray:
    """(y, x) around 0."""
    return zoom(random.standard_normal((side // COARSE + 3,) * 2).astype(np.float32), COARSE, order=1)[:side, :side]


def series_of(size: int) -> tuple[xr.DataArray, np.ndarray]:
    """(time, band, y, x) with NaN under clouds, two fifths of every date, and what is under them.

    Each date is the shipped sample, repeated, darkened or brightened by date and by a smooth field, with noise.
    """
    tile = read_sample()
    whole = np.tile(tile, (1, -(-size // 512), -(-size // 512)))[:, :size, :size].astype(np.float32)
    truth, clouds = [], []
    for number in range(DATES):
        random = np.random.default_rng(number)
        season = 1 + 0.2 * np.sin(number / 3) + 0.1 * smooth(random, size)
        truth.append(np.maximum(whole * season + 30 * random.standard_normal(whole.shape, np.float32), 1))
        field = smooth(random, size)
        clouds.append(field > np.quantile(field, 1 - MISSING))
    pixels = np.stack(truth).astype(np.float32)
    seen = np.where(np.stack(clouds)[:, None], np.nan, pixels)
    times = pd.date_range("2022-04-01", periods=DATES, freq="10D").to_numpy()
    coords = {"time": times, "band": list(PRITHVI_BANDS), "y": np.arange(size) * -30.0, "x": np.arange(size) * 30.0}
    return xr.DataArray(seen, dims=("time", "band", "y", "x"), coords=coords), pixels


def prepare(way: str, size: int, folder: Path) -> Work:
    """One of our methods, without standard errors, or xarray's interpolation in time.

    xarray leaves open what lies before the first and after the last clear date.
    """
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    series, truth = series_of(size)
    hidden = series.isnull().values

    def work() -> dict[str, float]:
        if way == "xarray":
            filled = series.interpolate_na("time", "linear").values
        else:
            filled = prithvi.fill(series, way, uncertainty=False)["image"].values
        error = np.abs(filled - truth)[hidden]
        return {"MAE": float(np.nanmean(error)) / 1e4, "left open": float(np.isnan(error).mean())}

    return work
