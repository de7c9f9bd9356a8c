"""A time series with holes to one without: every date a Cloud-Optimized GeoTIFF, and what was filled marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from prithvi.mapping.blend import BlendedRows, Predict, blend
from prithvi.mapping.gaps import Fill, fill_window
from prithvi.mapping.rasters import GDAL_CACHE, Grid, Raster, RasterWriter
from prithvi.mapping.scoring import Ground
from prithvi.mapping.strips import rows_of
from prithvi.scenes import conform

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
    uncertainty: bool = True,
    resume: bool = False,
    tags: dict[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FillResult:
    """Fills every date from the others and writes DATE.tif (int16, reflectance x 10,000, nodata -9999),
    DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif (as DATE.tif: the standard error, 0
    where observed).

    Pixels are held for a row of windows of the dates that are seen together, never for the whole height.
    Observed pixels stay what they were.

    Args:
        series: (time, band, y, x), what `prithvi.open_scene` gives for several dates.
        folder: where to.
        fill: how (see `Fill`), on reflectance x 10,000; `with_model` makes one of an autoencoder.
        bands: common names; default all of the series.
        clear: (time, y, x) bool on the same grid, False under clouds; None where clouds are holes already.
        dates: how many are seen together, the one that is filled and its neighbours; None for all at once.
        window: side of the squares that are filled one by one, in pixels.
        stride: pixels between them; default half a window, so that overlaps blend.
        uncertainty: whether to write it; it takes two more runs of every window with gaps.
        resume: go on from the rows that an interrupted run of the same finished.
        tags: of every file.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError: fewer than two dates, a date twice, or dates that are not known.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        OutputError: a file cannot be written.

    """
    names = check_names(list(bands) if bands is not None else [str(name) for name in series["band"].values])
    contract = Contract(names, (0.0,) * len(names), (1.0,) * len(names))
    series = without_clouds(conform(series, contract), clear)
    labels = _labels(series)
    plan = windows.plan(series.sizes["y"], series.sizes["x"], window, max(1, window // 2) if stride is None else stride)
    groups, done, counts = groups_of(len(labels), dates), 0, np.zeros(256, dtype=np.int64)
    folder = Path(folder)

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(plan) * len(groups))

    for group, wanted in groups:
        part = series.isel(time=list(group)).assign_attrs(series.attrs)
        rasters = [raster for date in wanted for raster in rasters_of(labels[date], names, uncertainty, tags or {})]
        key = {
            "source": str(series.attrs.get("source")), "dates": [labels[date] for date in group], "tags": tags,
            "shape": series.shape, "window": [window, stride], "bands": names, "uncertainty": uncertainty,
        }  # fmt: skip
        with (
            rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE),
            RasterWriter(folder, Grid.of(series), rasters, key, resume) as writer,
        ):
            if not writer.made:
                begin = writer.start
                predict = predictor(fill, Ground.of(part), [group.index(date) for date in wanted], uncertainty)
                found = blend(
                    rows_of(part, contract), (part.sizes["y"], part.sizes["x"]), predict, plan, batch_size=1,
                    part=(slice(begin, part.sizes["y"]), slice(0, part.sizes["x"])), progress=count,
                )  # fmt: skip
                for rows in found:
                    writer.write(begin + rows.start, _stored(rows, len(wanted), len(names), uncertainty))
                    if rows.last:
                        writer.keep()
                writer.make()
                writer.publish()
        done = len(plan) * (groups.index((group, wanted)) + 1)
    for label in labels:
        counts += _states(folder / f"{label}_filled.tif")
    paths = tuple(folder / f"{label}.tif" for label in labels)
    return FillResult(paths, int(counts[OBSERVED]), int(counts[FILLED]), int(counts[NOTHING]))


def without_clouds(series: xr.DataArray, clear: xr.DataArray | None) -> xr.DataArray:
    """The series with NaN under clouds.

    Raises:
        SceneError: a mask of another size.

    """
    if clear is None:
        return series
    if clear.shape != (series.sizes["time"], series.sizes["y"], series.sizes["x"]):
        raise SceneError(
            f"the masks have the shape {clear.shape} (time, y, x) and the series "
            f"{series.isel(band=0).shape}: they do not lie on one grid."
        )
    attributes = series.attrs
    series = series.chunk() if series.chunks is None else series
    series = series.where(xr.DataArray(clear.data, dims=("time", "y", "x")))
    hidden: xr.DataArray = series.transpose("time", "band", "y", "x").assign_attrs(attributes)
    return hidden


def predictor(fill: Fill, ground: Ground, places: list[int], uncertainty: bool) -> Predict:
    """A window's answers: the dates at `places` (date by date, bands within), 1 where each was filled, 1 everywhere,
    and the standard errors like the dates.
    """

    def predict(pixels: torch.Tensor, middles: list[tuple[float, float]]) -> torch.Tensor:
        latitude, longitude = ground.places(middles)[0].tolist()
        image = pixels[0].numpy()
        unknown = np.full((image.shape[1], 2), np.nan, np.float32)
        days = ground.dates[0].numpy() if ground.dates is not None else unknown
        known = np.isfinite(image[0])
        found = fill_window(fill, image, known, days, (latitude, longitude), uncertainty)
        marks = (~known[places]).astype(np.float32)
        parts = [_by_date(found.image, places), marks, np.ones((1, *marks.shape[1:]), np.float32)]
        if uncertainty:
            parts.append(_by_date(found.uncertainty, places))
        return torch.from_numpy(np.concatenate(parts))[None]

    return predict


def _by_date(image: npt.NDArray[np.float32], places: list[int]) -> npt.NDArray[np.float32]:
    """(band, T, y, x) to (dates x bands, y, x)."""
    return image[:, places].swapaxes(0, 1).reshape(-1, *image.shape[2:])


@dataclass(frozen=True)
class FilledRows:
    """Finished rows of the dates that are wanted."""

    image: npt.NDArray[np.float32]
    """(date, band, rows, width); NaN where nothing can be said."""
    state: npt.NDArray[np.uint8]
    """(date, rows, width)."""
    uncertainty: npt.NDArray[np.float32] | None
    """(date, band, rows, width)."""

    @classmethod
    def of(cls, rows: BlendedRows, dates: int, bands: int, uncertainty: bool) -> FilledRows:
        """Out of the blended answers of a `predictor`."""
        scores, shape = rows.scores.numpy(), rows.valid.shape
        if len(scores) == 0:  # no window with data was seen yet
            nothing = np.full((dates, bands, *shape), np.nan, np.float32)
            return cls(nothing, np.full((dates, *shape), NOTHING, np.uint8), nothing if uncertainty else None)
        values = scores[: dates * bands].reshape(dates, bands, *shape)
        seen = scores[dates * bands + dates] > 0.5
        there = np.isfinite(values).all(axis=1) & seen
        filled = scores[dates * bands : dates * bands + dates] > 0.5
        state = np.where(there, np.where(filled, FILLED, OBSERVED), NOTHING).astype(np.uint8)
        image = np.where(there[:, None], values, np.float32(np.nan))
        if not uncertainty:
            return cls(image, state, None)
        deviation = scores[dates * bands + dates + 1 :].reshape(values.shape)
        observed = (state == OBSERVED)[:, None]
        unsure = np.where(observed, 0, np.where(there[:, None], deviation, np.nan)).astype(np.float32)
        return cls(image, state, unsure)


def rasters_of(label: str, bands: Sequence[str], uncertainty: bool, tags: dict[str, str]) -> list[Raster]:
    """The files of a date."""
    found = [
        Raster(f"{label}.tif", tuple(bands), "int16", STORED, tags, SCALE),
        Raster(f"{label}_filled.tif", ("filled",), "uint8", NOTHING, tags, resampling="MODE"),
    ]
    if uncertainty:
        found.append(Raster(f"{label}_uncertainty.tif", tuple(bands), "int16", STORED, tags, SCALE))
    return found


def _stored(rows: BlendedRows, dates: int, bands: int, uncertainty: bool) -> list[npt.NDArray[np.generic]]:
    found = FilledRows.of(rows, dates, bands, uncertainty)
    return stored_dates(found.image, found.state == FILLED, found.uncertainty)


def stored_dates(
    image: npt.NDArray[np.float32], filled: npt.NDArray[np.bool_], uncertainty: npt.NDArray[np.float32] | None
) -> list[npt.NDArray[np.generic]]:
    """The values of `rasters_of`, date by date, out of (date, band, rows, width) and (date, rows, width) arrays."""
    values: list[npt.NDArray[np.generic]] = []
    for date, pixels in enumerate(image):
        there = np.isfinite(pixels).all(axis=0)
        values += [_whole(pixels), np.where(there, np.where(filled[date], FILLED, OBSERVED), NOTHING).astype(np.uint8)]
        if uncertainty is not None:
            values.append(_whole(np.ceil(uncertainty[date])))
    return values


def _whole(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    stored = np.clip(np.round(np.nan_to_num(values)), STORED + 1, 32_767)
    return np.where(np.isfinite(values), stored, STORED).astype(np.int16)


def _states(path: Path) -> npt.NDArray[np.int64]:
    """Pixels of each value."""
    counts = np.zeros(256, dtype=np.int64)
    with rasterio.open(path) as raster:
        for _, part in raster.block_windows(1):
            counts += np.bincount(raster.read(1, window=part).ravel(), minlength=256)
    return counts


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


def groups_of(number: int, together: int | None) -> list[tuple[list[int], list[int]]]:
    """Which dates are seen together, and which of them are filled then.

    Raises:
        ConfigError: fewer than two together.

    """
    if together is None or together >= number:
        return [(list(range(number)), list(range(number)))]
    if together < 2:
        raise ConfigError(f"{together} dates together: a gap is filled from at least one other.")
    starts = [min(max(date - together // 2, 0), number - together) for date in range(number)]
    return [
        (list(range(start, start + together)), [date for date in range(number) if starts[date] == start])
        for start in sorted(set(starts))
    ]
