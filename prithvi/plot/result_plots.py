"""Plots of results: classes with a legend, quantities with a colour bar, embeddings as colours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from rasterio.errors import RasterioError

from prithvi.contract import Category
from prithvi.errors import ConfigError, SceneError
from prithvi.plot.drawing import CONTINUOUS, class_colors, draw, ground_of
from prithvi.plot.pictures import having, thinned

Result = xr.Dataset | xr.DataArray | npt.NDArray[Any] | str | Path


def classes(
    result: Result,
    ax: Axes | None = None,
    *,
    names: Sequence[str] = (),
    colors: Sequence[str] = (),
    legend: bool = True,
    ticks: bool = False,
    bar: bool = True,
) -> Axes:
    """Draws a class map in its class colours, with nodata in white.

    Args:
        result: a result of `prithvi.map`; a file of `prithvi map`, by path or opened with rioxarray; or (y, x) class
            numbers.
        ax: axes to draw on; None for a new figure.
        names: names of the classes 0, 1, 2, ..., if the result has none.
        colors: colours of the classes (RRGGBB); default those of the result, else those of Okabe and Ito.
        legend: draw a legend.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the map is in metres.

    Raises:
        ConfigError: the result is not a class map, or its classes have no names.
        SceneError: the file cannot be read.

    """
    array = _layer(result, ("class",), "a class map")
    entries = _entries(array, names, colors)
    values = thinned(array).values
    picture = np.ones((*values.shape, 3), dtype=np.float32)
    for entry in entries:
        picture[values == entry.value] = to_rgb(f"#{entry.color}")
    ax = draw(ax, picture, ground_of(array), ticks=ticks, bar=bar).axes
    if legend:
        handles = [Patch(facecolor=f"#{entry.color}", edgecolor="0.4", label=entry.name) for entry in entries]
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False)
    return ax


def values(
    result: Result,
    ax: Axes | None = None,
    *,
    name: str | None = None,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
    cmap: str = CONTINUOUS,
    ticks: bool = False,
    bar: bool = True,
) -> Axes:
    """Draws a quantity, confidence or probability with a colour bar, with nodata in white.

    Args:
        result: a result of `prithvi.map` or one of its variables; a file, by path or opened with rioxarray; or (y, x)
            numbers.
        ax: axes to draw on; None for a new figure.
        name: variable of a dataset to draw; default `value`, else `confidence`.
        limits: lowest and highest value of the colour scale; default 0 and 1 for confidence and probability, and the
            1st and 99th percentile otherwise.
        label: label of the colour bar; default the quantity's name and unit.
        cmap: a matplotlib colour map.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the map is in metres.

    Raises:
        ConfigError: the dataset has no such variable.
        SceneError: the file cannot be read, the result has several layers, or no pixel has data.

    """
    array = _layer(result, ("value", "confidence") if name is None else (name,), "a map of a quantity")
    shown = thinned(array).values.astype(np.float32)
    known = shown[np.isfinite(shown)]
    if not known.size:
        raise SceneError("no pixel of this map has a value.")
    called = str(array.attrs.get("long_name") or array.name or "value")
    share = any(word in called for word in ("confidence", "probability")) or str(array.name) == "probability"
    low, high = limits or ((0.0, 1.0) if share else np.percentile(known, [1, 99]).tolist())
    image = draw(ax, shown, ground_of(array), ticks=ticks, bar=bar, cmap=cmap, vmin=low, vmax=high)
    beyond = (bool(known.min() < low), bool(known.max() > high))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    unit = str(array.attrs.get("units") or "")
    text = label if label is not None else f"{called} ({unit})" if unit else called
    image.axes.figure.colorbar(image, ax=image.axes, shrink=0.8, extend=extend, label=text)
    return image.axes


def embedding(
    result: xr.Dataset | xr.DataArray, ax: Axes | None = None, *, step: int = 0, ticks: bool = False, bar: bool = True
) -> Axes:
    """Draws the first three principal components of embeddings as red, green and blue.

    Similar colours mean similar embeddings. Components are computed over all time steps of a result, so colours are
    comparable between its steps, but not between results.

    Args:
        result: a result of `prithvi.embed`, or (step, feature, y, x) embeddings.
        ax: axes to draw on; None for a new figure.
        step: index of the time step to draw.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the CRS of the embeddings is in metres.

    Raises:
        SceneError: the result has no embeddings, or fewer than four of them.

    """
    if isinstance(result, xr.Dataset):
        if "embedding" not in result:
            raise SceneError(f"embeddings are what prithvi.embed gives; this holds {', '.join(map(str, result))}.")
        result = result["embedding"]
    having(result, "an embedding", "feature", "y", "x")
    steps = result if "step" in result.dims else result.expand_dims("step")
    vectors = thinned(steps).transpose("step", "y", "x", "feature").values.astype(np.float64)
    there = np.isfinite(vectors).all(axis=-1)
    known = vectors[there]
    if len(known) < 4:
        raise SceneError("fewer than four places have an embedding: there is nothing to tell apart.")
    centred = known - known.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :3]
    # The sign of an eigenvector is arbitrary: the largest coefficient is made positive, so that colours are stable.
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), range(directions.shape[1])])
    scores = centred @ directions
    low, high = np.percentile(scores, [2, 98], axis=0)
    picture = np.ones((*there.shape, 3), dtype=np.float32)
    picture[there] = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    return draw(ax, picture[step], ground_of(result), ticks=ticks, bar=bar).axes


def _layer(result: Result, wanted: Sequence[str], what: str) -> xr.DataArray:
    """The (y, x) array to draw, from any kind of result."""
    if isinstance(result, (str, Path)):
        try:
            opened = rioxarray.open_rasterio(result, mask_and_scale=wanted != ("class",))
        except (RasterioError, OSError) as error:
            raise SceneError(f"{result} cannot be read as {what} ({error}).") from error
        assert isinstance(opened, xr.DataArray)
        result = opened.drop_vars("band") if opened.sizes["band"] == 1 else opened
    if isinstance(result, xr.Dataset):
        found = next((name for name in wanted if name in result), None)
        if found is None:
            have = ", ".join(map(str, result.data_vars))
            raise ConfigError(f"{what} holds {' or '.join(wanted)}; this holds {have}.")
        result = result[found]
    if not isinstance(result, xr.DataArray):
        if np.ndim(result) != 2:
            raise SceneError(f"{what} has two dimensions, (y, x), and this has {np.ndim(result)}.")
        result = xr.DataArray(result, dims=("y", "x"))
    having(result, what, "y", "x")
    flat = result.squeeze([dim for dim in result.dims if dim not in ("y", "x") and result.sizes[dim] == 1], drop=True)
    more = [f"{size} of {dim}" for dim, size in flat.sizes.items() if dim not in ("y", "x")]
    if more:
        raise SceneError(f"{what} has one layer, and this has {', '.join(more)}: select one, with .sel or .isel.")
    return flat.transpose("y", "x")


def _entries(array: xr.DataArray, names: Sequence[str], colors: Sequence[str]) -> list[Category]:
    """The classes, by the caller, by the attributes of a result, or by the tags and colour table of a file."""
    own: Mapping[int, str] = {}
    if names:
        found = dict(enumerate(names))
    elif "classes" in array.attrs:
        told = json.loads(array.attrs["classes"])
        found = {entry["value"]: entry["name"] for entry in told}
        own = {entry["value"]: entry["color"] for entry in told if entry["color"]}
    else:
        tags = {key[6:]: text for key, text in array.attrs.items() if str(key).startswith("CLASS_")}
        found = {int(number): str(text) for number, text in tags.items() if number.isdigit()}
        with suppress(RasterioError, ValueError, TypeError), rasterio.open(array.encoding.get("source")) as raster:
            own = {value: bytes(color[:3]).hex().upper() for value, color in raster.colormap(1).items()}
    if not found:
        raise ConfigError("nobody says what the classes of this map are called: give names=['land', 'water'].")
    if colors and len(colors) != len(found):
        raise ConfigError(f"{len(colors)} colours for {len(found)} classes ({', '.join(found.values())}).")
    drawn = dict(zip(sorted(found), colors or class_colors(len(found)), strict=True))
    return [Category(value, found[value], color if colors else own.get(value, color)) for value, color in drawn.items()]
