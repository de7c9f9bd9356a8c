"""A scene against a model's contract: the right bands, a plausible scale, and pixels in the model's units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.errors
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from rasterio.transform import xy

from prithvi.bands import what_it_means
from prithvi.contract import Contract
from prithvi.errors import BandError, ScaleError, SceneError
from prithvi.scenes.band_order import check_order
from prithvi.scenes.grids import transform_of
from prithvi.scenes.info import SceneInfo, name_of
from prithvi.scenes.pixels import files_without_impossible, source_of
from prithvi.scenes.remote import DAMAGED
from prithvi.scenes.validity import HIGHEST, Floats, Range, Tally, fill_like, values_without_impossible


def conform(scene: xr.DataArray, contract: Contract, accept: Sequence[str] = ()) -> xr.DataArray:
    """`scene` with exactly the contract's bands in their order, its values checked on a sample and not yet converted.

    Values of files that cannot be reflectance are missing in what this gives (see `prithvi.scenes.validity`); those of
    arrays once `read` reads them.

    Args:
        scene: what `open_scene` gives.
        contract: what the model expects.
        accept: `nir_broad` lets a broad near infrared stand in for a missing nir_narrow; `attrs["accepted"]` says so.

    Raises:
        BandError: a band is missing.
        ScaleError: values of another magnitude than the contract's, or a band whose scale nobody states though
            that of others is known.
        SceneError: no pixel has data.

    Warns:
        UserWarning: no scale is stated, or another resolution or level than the model was trained on.

    """
    if SceneInfo.of(scene).unnamed:
        check_order(scene, _samples(scene, _with_data, wanted=4))
    scene = _select(scene, contract, accept)
    _check_values(scene, contract)
    _warn_of_differences(scene, contract)
    return files_without_impossible(scene, *units_of(scene, contract))


def without_impossible(scene: xr.DataArray, gain: float, bias: float, tally: Tally | None = None) -> xr.DataArray:
    """A scene with NaN for what cannot be reflectance (see `prithvi.scenes.validity`), lazy where it is lazy.

    Args:
        scene: (time, band, y, x).
        gain: reflectance = value x gain + bias.
        bias: see gain.
        tally: counts what is found in an array in memory.

    """
    if source_of(scene) is not None:
        return files_without_impossible(scene, gain, bias)
    dtype = SceneInfo.of(scene).dtype
    if scene.chunks is None:
        return scene.copy(data=values_without_impossible(scene.values, gain, bias, dtype, tally))
    whole = scene.data.rechunk({1: -1})
    return scene.copy(data=whole.map_blocks(values_without_impossible, gain, bias, dtype, dtype=scene.dtype))


def units_of(scene: xr.DataArray, contract: Contract | None) -> tuple[float, float]:
    """Gain and bias of a scene's values (reflectance = value x gain + bias): its own, or the contract's."""
    info = SceneInfo.of(scene)
    if info.gain is None and contract is not None:
        return 1.0 / contract.scale, float(info.bias or 0.0)
    assert info.gain is not None
    return float(info.gain), float(info.bias or 0.0)


def read(scene: xr.DataArray, contract: Contract | None = None, tally: Tally | None = None, first: int = 0) -> Floats:
    """The pixels of (a part of) a scene, (time, band, y, x), NaN where there are none.

    Args:
        scene: what `conform` gives, or a part of it.
        contract: converts to its units, what cannot be reflectance being NaN; None leaves the values as stored.
        tally: counts what cannot be reflectance.
        first: the row of the first, for the tally.

    Raises:
        SceneError: the file is cut short or damaged where it was read.

    """
    try:
        values: Floats = np.asarray(scene.values)
    except (rasterio.errors.RasterioError, OSError) as error:
        raise SceneError(f"{name_of(scene)} {DAMAGED}") from error
    if contract is None:
        return values
    gain, bias = units_of(scene, contract)
    values = values_without_impossible(values, gain, bias, SceneInfo.of(scene).dtype, tally, first)
    return contract.from_reflectance(values, gain, bias)


def ground_resolution(scene: xr.DataArray) -> float:
    """Size of a pixel in metres, across the middle of the scene."""
    transform = transform_of(scene)
    width, height = np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e)
    if not scene.rio.crs.is_geographic:
        return float((width * height) ** 0.5 * scene.rio.crs.linear_units_factor[1])
    middle = scene.sizes["x"] / 2
    north, south = (xy(transform, row, middle, offset="ul")[1] for row in (0, scene.sizes["y"]))
    metres = 111_320.0
    return float((width * metres * np.cos(np.radians((south + north) / 2)) * height * metres) ** 0.5)


def _select(scene: xr.DataArray, contract: Contract, accept: Sequence[str]) -> xr.DataArray:
    info, have = SceneInfo.of(scene), [str(name) for name in scene["band"].values]
    take, accepted = [], []
    for name in contract.bands:
        if name not in have and name == "nir_narrow" and "nir_broad" in have:
            if "nir_broad" not in accept:
                raise BandError(
                    f"{info.called} has a broad near infrared (nir_broad) and no nir_narrow, which the model was "
                    "trained on: --accept nir_broad uses it all the same, and the result says so."
                )
            accepted.append("nir_broad")
            name = "nir_broad"
        take.append(name)
    missing = [name for name in take if name not in have]
    if missing:
        unknown = "".join(f" {what_it_means(name)}" for name in info.unknown_bands)
        raise BandError(
            f"{info.called} lacks {', '.join(missing)}; it has {', '.join(have)}, and this model wants "
            f"{', '.join(contract.bands)}.{unknown}"
        )
    # A band of unknown scale among others of a known one cannot be brought to the model's units.
    unscaled = [name for name in take if name in info.unscaled]
    if unscaled:
        raise ScaleError(
            f"{info.called}: some bands or dates state their scale and {', '.join(unscaled)} does not: say --scale, "
            "or --sensor."
        )
    scene = scene.isel(band=[have.index(name) for name in take]).assign_coords(band=list(contract.bands))
    return scene.assign_attrs(accepted=accepted) if accepted else scene


def _samples(
    scene: xr.DataArray, kept: Callable[[Floats], Floats], size: int = 256, wanted: int = 9
) -> Iterator[Floats]:
    """What is kept of (time, band, y, x) blocks from all over the scene; every block is looked at only while nothing
    was found.
    """
    rows, columns = range(0, scene.sizes["y"], size), range(0, scene.sizes["x"], size)
    # The first blocks of a swath or a coast may hold nothing, so blocks are visited scattered over the scene (7919 is a
    # large prime) until enough were found. Only a scene without any data is looked at as a whole.
    blocks = [(row, column) for row in rows for column in columns]
    order = sorted(range(len(blocks)), key=lambda i: (i * 7919) % max(len(blocks), 1))
    found, source = 0, source_of(scene)  # the files, where pixels come from these
    last = max(scene.sizes["time"] - 1, 1)
    for times in (slice(0, None, last), slice(1, -1)):  # the first and last dates may hold nothing at all
        for i in order if range(scene.sizes["time"])[times] else ():
            row, column = blocks[i]
            part = times, slice(None), slice(row, row + size), slice(column, column + size)
            pixels = kept(source[part] if source is not None else read(scene[part]))
            if pixels.size:
                yield pixels
                found += 1
                if found == wanted:
                    return
        if found:
            return


def _with_data(block: Floats) -> Floats:
    """The block, if some pixel of it has data in every band."""
    return block if np.isfinite(block).all(axis=1).any() else block[:0]


def _present(block: Floats, ranges: Sequence[Range], kinds: Sequence[np.dtype[Any]]) -> Floats:
    """(band, n) the pixels of a block that have a value in every band, and no fill."""
    # Every other pixel along both axes tells as much, in a quarter of the memory.
    for step in (2, 1):
        values = np.moveaxis(block[..., ::step, ::step], 1, 0).reshape(block.shape[1], -1)
        values = values[:, ~np.isnan(values).any(axis=0)]
        if values.size:
            values = values[:, ~fill_like(values, ranges, kinds)]
        if values.size:
            break
    return values


def _check_values(scene: xr.DataArray, contract: Contract) -> None:
    info = SceneInfo.of(scene)
    where, stated = info.called, info.gain is not None
    if info.dtype == "uint8" and not stated:
        raise ScaleError(
            f"{where} is an 8-bit picture, not reflectance: use the product it was made from, or say --scale."
        )
    kinds = [np.dtype(info.dtype or scene.dtype)] * len(contract.bands)
    ranges = [Range.of(*units_of(scene, contract))] * len(contract.bands)
    blocks = list(_samples(scene, partial(_present, ranges=ranges, kinds=kinds)))
    if not blocks:
        raise SceneError(
            f"{where} has no pixel with data in every band (no data: {info.missing or 'NaN'}; values "
            "that cannot be reflectance, or the same one in every band that no surface has)."
        )
    # From here on: does the sample look like reflectance at the stated (or assumed) scale? Each test names one mistake
    # that users make and the option that mends it; ordered from the clearest mistake to the subtlest.
    values = np.concatenate(blocks, axis=1).astype(np.float64)
    gain, bias = units_of(scene, contract)
    possible = _possible(values, Range.of(gain, bias))
    if possible.mean() >= 0.5:  # else it is the scale that is wrong, and not these pixels
        values = values[:, possible]
    reflectance = values * gain + bias
    middle, high = np.median(reflectance), np.percentile(reflectance, 99)
    seen = f"{where} has values around {np.median(values):.4g} (99 % below {np.percentile(values, 99):.4g})"
    said = "as stated" if stated else "no scale is stated"
    whole = f"--scale 1{' --offset 0' if bias else ''}"
    units = f"reflectance x {contract.scale:g}"
    if possible.mean() < 0.5 and middle < 0:
        raise ScaleError(f"{seen}, most of which are below any reflectance ({said}): say another --scale or --offset.")
    if high < 0.01:
        raise ScaleError(
            f"{seen}, too small for {units}, which this model wants ({said}): if they are reflectance 0 to 1, "
            f"say {whole}."
        )
    # Landsat Collection 2 stores a reflectance of 0 as 7,273, and hardly anything lies below that.
    of_landsat = np.percentile(values, 1, axis=1).min() > 6_500 and np.percentile(values, 99) < 2**16
    if not stated and contract.scale == 10_000 and of_landsat:
        raise ScaleError(
            f"{seen} and none under 6,500, as Landsat Collection 2 stores them: say --sensor landsat-8-c2-l2 (or 9, "
            "457), or --scale 10000 if they are reflectance x 10,000."
        )
    if middle > HIGHEST or possible.mean() < 0.5:
        raise ScaleError(
            f"{seen}, too large for {units}, which this model wants ({said}): if they are reflectance x 10,000, say "
            f"--scale 10000{' --offset 0' if bias else ''}."
        )
    # Of Sentinel-2 the scale is known and the offset is not; of a file that states no scale neither is.
    of_sentinel = (info.sensor or "").startswith("sentinel-2")
    unsaid = info.offset is None and (of_sentinel or (not stated and contract.scale == 10_000))
    if unsaid and np.percentile(values, 0.1, axis=1).min() >= 1_000:
        beside = "" if stated else "--scale 10000 "
        raise ScaleError(
            f"{where} has no value under 1,000 in any band, as Sentinel-2 archives since 2022 store them: say "
            f"{beside}--offset -1000 if the 1,000 are still in it, {beside}--offset 0 if not."
        )
    if not stated:
        warnings.warn(f"{where} does not state its scale; its values are taken for {units}.", stacklevel=4)


def _possible(values: Floats, own: Range) -> npt.NDArray[np.bool_]:
    """(n,) where all of (band, n) values can be reflectance."""
    return np.asarray(((values >= own.low) & (values <= own.high)).all(axis=0))


def _warn_of_differences(scene: xr.DataArray, contract: Contract) -> None:
    level = SceneInfo.of(scene).level
    if level and contract.level and level != contract.level:
        warnings.warn(f"{name_of(scene)} is {level}, and the model was trained on {contract.level}.", stacklevel=3)
    if contract.resolution is not None:
        size = ground_resolution(scene)
        if not 2 / 3 < size / contract.resolution < 1.5:
            warnings.warn(
                f"{name_of(scene)} has pixels of {size:.3g} m, and the model was trained on {contract.resolution:g} m.",
                stacklevel=3,
            )
