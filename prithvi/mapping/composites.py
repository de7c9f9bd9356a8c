"""`prithvi.mapping.composite`: of each period the best observation of each pixel, as it was observed, and its date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr

from prithvi.bands import check_names, left_out_of_bands, reflective
from prithvi.errors import ConfigError
from prithvi.files import refuse_overwrite
from prithvi.mapping.cog import RasterWriter, left_out_of
from prithvi.mapping.engine import Progress
from prithvi.mapping.gap_filling import in_order, reflectance, without_thermal
from prithvi.mapping.maskproducts import NOT_CLEAR
from prithvi.mapping.masks import Masks, laid_over, of_files, ranks_of, refuse_nothing_left, without_clouds
from prithvi.mapping.periods import periods_of
from prithvi.mapping.result_files import composite_rasters
from prithvi.mapping.series_files import state_of
from prithvi.mapping.sliding_window import rows_of
from prithvi.products.provenance import Provenance, can_resume, checksum
from prithvi.scenes import conform
from prithvi.scenes.block_cache import room_for
from prithvi.scenes.conform import units_of, without_impossible
from prithvi.scenes.names import Date, as_time, days_of
from prithvi.scenes.pixels import cache_bytes, source_of
from prithvi.scenes.validity import Tally

ROWS = 512
"""Rows of files that are composed at once."""


def composite(
    series: xr.DataArray,
    *,
    clear: xr.DataArray | None = None,
    masks: Masks | None = None,
    masks_are: str | None = None,
    ranks: xr.DataArray | None = None,
    every: int | str | None = None,
    start: Date | None = None,
    target_day: Date | None = None,
) -> xr.Dataset:
    """Of each period the best observation of each pixel, without any filling or averaging.

    The best is, in this order: plainly clear before next to a cloud or snow, where the mask says so (Fmask); low
    aerosol before moderate and high, likewise; nearest to the middle of the period; the earlier of two as near. A pixel
    that lacks one band, and what lies under clouds or their shadows, is never taken.

    Args:
        series: (time, band, y, x), the dimensions in any order, NaN where there is no data, with dates in `time`.
        clear: (time, y, x) True where clear, False under clouds, see `prithvi.fill`; without any mask all that has data
            counts as clear.
        masks: instead of `clear`, cloud masks by date or in the order of the dates.
        masks_are: what they hold; see `prithvi.mapping.clear_of`.
        ranks: instead of both, (time, y, x) how good an observation is, 0 the best and 255 not to be taken; what
            `prithvi.mapping.ranks_of` makes of mask files.
        every: `16d` or 16: the length of a period in days; default one period, the whole series.
        start: the first day of a period, from which the others are counted; default the first of the series. Dates
            before it are in no period.
        target_day: the day that observations are to be near to, instead of the middle of each period.

    Returns:
        `image` (time, band, y, x): the values bit for bit, NaN where nothing clear was observed; `date` (time, y, x)
        int32: year and day of the year of each pixel's observation, as in names of HLS (2022145 is 25 May), 0 for none.
        `time` is the first day of each period, `last_day` its last. Lazy where the series is.

    Raises:
        SceneError: the series has no dates, or other dimensions; a day that is none; masks that do not fit.
        ConfigError: `every` is no number of days, `start` without it, or two kinds of masks.

    """
    given, series = series, without_thermal(in_order(series, 1))
    periods = periods_of(series, every, start, target_day)
    if "gain" in series.attrs:
        series = without_impossible(series, *units_of(series, None))
    series = series.astype(np.result_type(series.dtype, np.float32))
    ranked = _ranked(series, clear, masks, masks_are, ranks)
    if series.chunks is None:
        ranked = ranked.compute()
        if any(each is not None for each in (clear, masks, ranks)):
            refuse_nothing_left(_taken(series, ranked))
    images, dates = [], []
    for period in periods:
        held = list(period.places)
        if not held:
            one = series.isel(time=0, drop=True)
            images.append(xr.full_like(one, np.nan))
            dates.append(xr.zeros_like(one.isel(band=0, drop=True), np.int32))
            continue
        parts = series.isel(time=held).drop_vars("time"), ranked.isel(time=held).drop_vars("time", errors="ignore")
        image, date = xr.apply_ufunc(
            _best_of, *parts, kwargs={"dates": _year_days(series, held)}, input_core_dims=[["time", "band"], ["time"]],
            output_core_dims=[["band"], []], dask="parallelized", output_dtypes=[series.dtype, np.int32],
            dask_gufunc_kwargs={"allow_rechunk": True}, join="override",
        )  # fmt: skip
        images.append(image)
        dates.append(date)
    result = xr.Dataset({"image": xr.concat(images, "time"), "date": xr.concat(dates, "time")})
    result = result.assign_coords(
        time=np.array([period.first for period in periods], "datetime64[ns]"),
        last_day=("time", np.array([period.last for period in periods], "datetime64[ns]")),
    ).transpose(*given.dims)
    result["image"].attrs = series.attrs
    result["date"].attrs = {"long_name": "year and day of the year of the observation, 0 for none"}
    return result.assign_attrs(Provenance("best observation").of_scene(series, "prithvi.mapping.composite").tags())


@dataclass(frozen=True)
class CompositeResult:
    """What was written."""

    paths: tuple[Path, ...]
    """A file for each period, in order."""
    observed: int
    """Pixels and periods of which something clear was observed."""
    empty: int
    notes: tuple[str, ...] = ()
    """How each date's mask was read and what it leaves; pixels that were treated as nodata; periods without a date."""


def composite_series(
    series: xr.DataArray,
    folder: str | Path,
    *,
    bands: Sequence[str] | None = None,
    clear: xr.DataArray | None = None,
    masks: Masks | None = None,
    masks_are: str | None = None,
    ranks: xr.DataArray | None = None,
    every: int | str | None = None,
    start: Date | None = None,
    target_day: Date | None = None,
    resume: bool = False,
    inputs: Sequence[str | Path] = (),
    command: str = "prithvi.mapping.composite_series",
    progress: Progress | None = None,
) -> CompositeResult:
    """Writes for each period FIRST_LAST.tif (its first and last day; int16, reflectance x 10,000, nodata -9999) and
    FIRST_LAST_date.tif (int32, year and day of the year of each pixel's observation, 0 for none).

    The values are those of `composite`. One date is read at a time, `ROWS` rows of it.

    Args:
        series: what `prithvi.open_scene` gives for several dates.
        folder: where to.
        bands: common names; default all of the series.
        clear: this and the masks, periods and days: see `composite`.
        masks: see `composite`.
        masks_are: see `composite`.
        ranks: see `composite`.
        every: see `composite`.
        start: see `composite`.
        target_day: see `composite`.
        resume: keep the periods that an interrupted run with the same inputs and options has finished.
        inputs: files or folders of the series and its masks; see `prithvi.mapping.fill_series`.
        command: written to the files as the command that made them.
        progress: called with the rows done and their number in all, over all dates.

    Raises:
        SceneError, ConfigError: see `composite`.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        OutputError: a file cannot be written. The finished periods are kept.

    """
    no_reflectance = left_out_of_bands(series["band"].values) if bands is None else []
    names = check_names(reflective(series["band"].values) if bands is None else list(map(str, bands)))
    contract, series, folder = reflectance(names), in_order(series, 1), Path(folder)
    known = can_resume(series, resume)
    periods = periods_of(series, every, start, target_day)
    ranked = _ranked(series, clear, masks, masks_are, ranks)
    series = conform(series, contract)
    origin = Provenance("best observation").of_scene(series, command, tuple(map(str, inputs)))
    facts: dict[str, Any] = {
        "input": state_of(series, origin.inputs), "bands": names, "software": origin.software,
        "masks": [str(told) for told in ranked.attrs.get("masks", ())],
    }  # fmt: skip
    if any(each is not None for each in (clear, masks, ranks)):
        refuse_nothing_left(_taken(series, ranked))
        if not (inputs and of_files(ranked)):
            facts["ranks"] = checksum(ranked)
    refuse_overwrite((folder / f"{p.label}{end}.tif" for p in periods for end in ("", "_date")), inputs)
    heights = [ROWS] * -(-series.sizes["y"] // ROWS)
    if source_of(series) is None and series.chunks is not None:
        heights = list(series.chunks[2])
    total, notes = max(1, series.sizes["y"] * sum(len(p.places) for p in periods)), [*facts["masks"], *no_reflectance]
    paths, done = [], 0
    days = days_of(series)
    assert days is not None
    before = [str(day) for day in days if np.datetime64(day) < periods[0].first]
    if before:
        notes.append(f"No period holds {', '.join(before)}: the first begins on {periods[0].first} (start=, --start).")
    for period in periods:
        rasters = composite_rasters(period.label, names, origin.tags())
        key = {**facts, "period": period.label, "order": list(map(str, (days[place] for place in period.places)))}
        with RasterWriter(folder, series, rasters, key if known else None, resume) as writer:
            paths.append(folder / rasters[0].name)
            if not period.places:
                notes.append(f"{period.label}: nothing was observed from {period.first} to {period.last}.")
            if writer.made:
                done += series.sizes["y"] * len(period.places)
                continue
            tallies = {place: Tally(1, series.sizes["y"]) for place in period.places}
            # Of a run that was killed while it made its files all rows are there: they are read for the tally alone.
            first, begin = 0, writer.start
            for height in heights:
                last = min(first + height, series.sizes["y"])
                best = Best.empty(len(names), last - first, series.sizes["x"])
                for place in period.places:
                    one = series.isel(time=[place])
                    with room_for(min(4_000_000 + cache_bytes(one), 1_000_000_000)):
                        values = rows_of(one, contract, tallies[place])(first, last)[0]
                    rank = ranked[place, first:last].values
                    best.add(values, rank, _year_days(series, [place])[0])
                    done += last - first
                    if progress is not None:
                        progress(done, total)
                if first >= begin:
                    writer.write({"image": best.image[None], "date": best.date[None]})
                first = last
            said = {place: tally.sentence(*units_of(series, contract)) for place, tally in tallies.items()}
            left_out = " ".join(f"{days[place]}: {said[place]}" for place in sorted(said) if said[place])
            writer.tag(replace(origin, left_out=left_out).tags())
            writer.publish()
    if progress is not None:
        progress(total, total)
    notes += [f"{path.stem}: {text}" for path in paths for text in left_out_of(path)]
    return CompositeResult(tuple(paths), *_counted(paths), tuple(notes))


def _taken(series: xr.DataArray, ranked: xr.DataArray) -> xr.DataArray:
    """The series with NaN where nothing is to be taken, by position: coordinates may differ in the last digit."""
    return series.where(xr.DataArray((ranked.transpose("time", "y", "x") != NOT_CLEAR).data, dims=("time", "y", "x")))


def _counted(paths: Sequence[Path]) -> tuple[int, int]:
    """Pixels of the composites with an observation, and without."""
    observed, empty = 0, 0
    for path in paths:
        with rasterio.open(path.with_name(f"{path.stem}_date.tif")) as raster:
            for _, window in raster.block_windows(1):
                there = int(np.count_nonzero(raster.read(1, window=window)))
                observed, empty = observed + there, empty + window.width * window.height - there
    return observed, empty


@dataclass
class Best:
    """The best observations so far."""

    image: npt.NDArray[Any]
    """(band, y, x)."""
    date: npt.NDArray[np.int32]
    """(y, x) year and day of the year, 0 for none."""
    rank: npt.NDArray[np.uint8]
    """(y, x)."""

    @classmethod
    def empty(cls, bands: int, height: int, width: int, dtype: Any = np.float32) -> Best:
        """Nothing yet."""
        rank = np.full((height, width), NOT_CLEAR, np.uint8)
        return cls(np.full((bands, height, width), np.nan, dtype), np.zeros((height, width), np.int32), rank)

    def add(self, values: npt.NDArray[Any], rank: npt.NDArray[np.uint8], date: int) -> None:
        """Takes what is better than what is there: (band, y, x) values, (y, x) ranks, and their date."""
        better = np.isfinite(values).all(axis=0) & (rank < self.rank)
        np.copyto(self.image, values, where=better)
        self.date[better], self.rank[better] = date, rank[better]


def _best_of(
    values: npt.NDArray[Any], ranks: npt.NDArray[np.uint8], dates: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """(y, x, time, band) values and (y, x, time) ranks to the best (y, x, band) and (y, x) dates."""
    height, width, _, bands = values.shape
    best = Best.empty(bands, height, width, values.dtype)
    for place, date in enumerate(dates):
        best.add(np.moveaxis(values[:, :, place], -1, 0), ranks[:, :, place], date)
    return np.moveaxis(best.image, 0, -1), best.date


def _year_days(series: xr.DataArray, places: Sequence[int]) -> list[int]:
    """Dates as YYYYDDD."""
    return [int(as_time(series["time"].values[place]).strftime("%Y%j")) for place in places]


def _ranked(
    series: xr.DataArray,
    clear: xr.DataArray | None,
    masks: Masks | None,
    masks_are: str | None,
    ranks: xr.DataArray | None,
) -> xr.DataArray:
    """(time, y, x) uint8: how good each observation is.

    Raises:
        ConfigError: two kinds of masks.
        SceneError: masks that do not fit.

    """
    if sum(each is not None for each in (clear, masks, ranks)) > 1:
        raise ConfigError("clear=, masks= and ranks= all say where a series is clear: give one of them.")
    if masks is not None:
        return ranks_of(masks, series, product=masks_are)
    if ranks is not None:
        return laid_over(ranks, series)
    places = series.isel(band=0, drop=True)
    none = xr.zeros_like(places, np.uint8).assign_attrs(masks=())
    if clear is None:
        return none
    shown = without_clouds(none.expand_dims(band=1, axis=1), clear).isel(band=0, drop=True)
    return shown.fillna(NOT_CLEAR).astype(np.uint8).assign_attrs(masks=clear.attrs.get("masks", ()))
