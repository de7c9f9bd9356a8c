"""A time series with holes to one without: every date a Cloud-Optimized GeoTIFF, and what was filled marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
import xarray as xr

from prithvi import windows
from prithvi.bands import check_names
from prithvi.contract import Contract
from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.blend import blend
from prithvi.mapping.cog import CogWriter
from prithvi.mapping.maps import GDAL_CACHE, dates_of, device_of, locations_of
from prithvi.models import PrithviMAE, Standardise
from prithvi.models.gapfill import GapFiller
from prithvi.scenes import conform

Pixels = npt.NDArray[np.float32]
Known = npt.NDArray[np.bool_]
Fill = Callable[[Pixels, Known, Pixels, tuple[float, float]], Pixels]
"""(band, T, y, x) reflectance x 10,000, (T, y, x) which of it is known, (T, 2) year and day of the year from 0, and
(latitude, longitude), to the same pixels filled; NaN where nothing can be said."""

STORED, SCALE = -9999, 1e-4
OBSERVED, FILLED, NOTHING = 0, 1, 255
"""Values of the mask beside each date."""


@dataclass(frozen=True)
class FillResult:
    """What was written."""

    paths: tuple[Path, ...]
    """A file for each date, in order."""
    observed: int
    """Pixels and dates that were there."""
    filled: int
    empty: int
    """Those that could not be filled."""


def fill_series(
    series: xr.DataArray,
    folder: str | Path,
    fill: Fill,
    *,
    bands: Sequence[str] | None = None,
    clear: xr.DataArray | None = None,
    dates: int | None = 3,
    window: int = 224,
    stride: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FillResult:
    """Fills every date from the others and writes DATE.tif (int16, reflectance x 10,000, nodata -9999) and
    DATE_filled.tif (0 observed, 1 filled, 255 nothing).

    Pixels are held for a row of windows of the dates that are seen together, never for the whole height.
    Observed pixels stay what they were.

    Args:
        series: (time, band, y, x), what `prithvi.open_scene` gives for several dates.
        folder: where to.
        fill: how (see `Fill`); `with_model` makes one of an autoencoder.
        bands: common names; default all of the series.
        clear: (time, y, x) bool on the same grid, False under clouds; None where clouds are holes already.
        dates: how many are seen together, the one that is filled and its neighbours; None for all at once.
        window: side of the squares that are filled one by one, in pixels.
        stride: pixels between them; default half a window, so that overlaps blend.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError: fewer than two dates, a date twice, or dates that are not known.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        OutputError: a file cannot be written.

    """
    names = check_names(list(bands) if bands is not None else [str(name) for name in series["band"].values])
    contract = Contract(names, (0.0,) * len(names), (1.0,) * len(names))
    series = conform(series, contract)
    labels = _labels(series)
    if clear is not None:
        if clear.shape != (series.sizes["time"], series.sizes["y"], series.sizes["x"]):
            raise SceneError(
                f"the masks have the shape {clear.shape} (time, y, x) and the series "
                f"{series.isel(band=0).shape}: they do not lie on one grid."
            )
        attributes = series.attrs
        series = series.chunk() if series.chunks is None else series
        series = series.where(xr.DataArray(clear.data, dims=("time", "y", "x")))
        series = series.transpose("time", "band", "y", "x").assign_attrs(attributes)
    plan = windows.plan(series.sizes["y"], series.sizes["x"], window, max(1, window // 2) if stride is None else stride)
    groups, done, counts = _groups(len(labels), dates), 0, np.zeros(3, dtype=np.int64)
    paths = [Path(folder) / f"{label}.tif" for label in labels]

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(plan) * len(groups))

    for group, wanted in groups:
        part = series.isel(time=list(group)).assign_attrs(series.attrs)
        places = [group.index(date) for date in wanted]
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), ExitStack() as stack:
            writers = []
            for date in wanted:
                mask = paths[date].with_name(f"{paths[date].stem}_filled.tif")
                values = stack.enter_context(CogWriter(paths[date], part, names, "int16", STORED, {}, SCALE))
                marks = stack.enter_context(CogWriter(mask, part, ["filled"], "uint8", NOTHING, {}, resampling="MODE"))
                writers.append((values, marks))
            for rows in blend(part, contract, _predictor(fill, part, places), plan, 1, count):
                for (values, marks), (pixels, state) in zip(
                    writers, _split(rows.scores, len(wanted), len(names)), strict=True
                ):
                    values.write(rows.start, pixels)
                    marks.write(rows.start, state)
                    counts += [(state == value).sum() for value in (OBSERVED, FILLED, NOTHING)]
            for values, marks in writers:
                marks.finish()
                values.finish()
    return FillResult(tuple(paths), int(counts[0]), int(counts[1]), int(counts[2]))


def with_model(model: PrithviMAE, device: str | torch.device | None = None) -> Fill:
    """Filling by an autoencoder, made for as many dates as it is given.

    Args:
        model: what `prithvi.load` gives for a pretrained model's name or folder.
        device: torch device; default a GPU where there is one.

    """
    place = device_of(device)
    filler = GapFiller(model).to(place).eval()
    standardise = Standardise(model.contract).to(place)
    config = model.config

    @torch.inference_mode()
    def fill(
        image: Pixels, known: npt.NDArray[np.bool_], times: npt.NDArray[np.float32], where: tuple[float, float]
    ) -> Pixels:
        if image.shape[1] != config.num_frames:
            raise ConfigError(
                f"the model was made for {config.num_frames} dates, and {image.shape[1]} are filled together."
            )
        there = torch.from_numpy(known)[None].to(place)
        images = standardise(torch.from_numpy(np.nan_to_num(image))[None].to(place), there)
        coordinates = torch.from_numpy(times)[None].to(place), torch.tensor([where], dtype=torch.float32, device=place)
        filled = filler(images, there, *coordinates) * standardise.std + standardise.mean
        result: Pixels = np.where(known, image, filled[0].float().cpu().numpy())
        return result

    return fill


def _labels(series: xr.DataArray) -> list[str]:
    """The dates as the files are called."""
    if series.sizes["time"] < 2 or "time" not in series.coords:
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has {series.sizes['time']} dates, and a gap is filled from "
            "others: give files of two dates or more, with their dates (--date)."
        )
    labels = [str(label) for label in series["time"].dt.strftime("%Y-%m-%d").values]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has the date {twice} twice: leave one of them out."
        )
    return labels


def _groups(number: int, together: int | None) -> list[tuple[list[int], list[int]]]:
    """Which dates are seen together, and which of them are filled then."""
    if together is None or together >= number:
        return [(list(range(number)), list(range(number)))]
    if together < 2:
        raise ConfigError(f"{together} dates together: a gap is filled from at least one other.")
    starts = [min(max(date - together // 2, 0), number - together) for date in range(number)]
    return [
        (list(range(start, start + together)), [date for date in range(number) if starts[date] == start])
        for start in sorted(set(starts))
    ]


def _predictor(
    fill: Fill, scene: xr.DataArray, places: list[int]
) -> Callable[[torch.Tensor, torch.Tensor, list[tuple[float, float]]], torch.Tensor]:
    """(1, band*dates + dates + 1, y, x): the dates that are wanted, 1 where they were filled, and 1 everywhere."""
    times = dates_of(scene)
    assert times is not None

    def predict(pixels: torch.Tensor, valid: torch.Tensor, middles: list[tuple[float, float]]) -> torch.Tensor:
        where = locations_of(scene, middles)[0].tolist()
        image, known = pixels[0].numpy(), valid[0].numpy()
        filled = fill(image, known, times[0].numpy(), (where[0], where[1]))[:, places]
        values = torch.from_numpy(np.ascontiguousarray(filled.swapaxes(0, 1))).flatten(0, 1)
        return torch.cat([values, (~valid[0, places]).float(), torch.ones(1, *values.shape[1:])])[None]

    return predict


def _split(
    scores: npt.NDArray[np.float32], dates: int, bands: int
) -> list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]]:
    """(band, rows, width) int16 values and (rows, width) states of each date."""
    found = []
    for date in range(dates):
        if len(scores) == 0:  # no window with data was seen yet
            shape = scores.shape[1:]
            found.append((np.full((bands, *shape), STORED, np.int16), np.full(shape, NOTHING, np.uint8)))
            continue
        values = scores[date * bands : (date + 1) * bands]
        there = np.isfinite(values).all(axis=0) & (scores[-1] > 0.5)
        state = np.where(there, np.where(scores[dates * bands + date] > 0.5, FILLED, OBSERVED), NOTHING)
        stored = np.where(there, np.clip(np.round(np.nan_to_num(values)), STORED + 1, 32_767), STORED)
        found.append((stored.astype(np.int16), state.astype(np.uint8)))
    return found
