"""A fitted model and a scene to a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.transform
import torch
import xarray as xr
from rasterio.warp import transform as project

from prithvi import windows
from prithvi.errors import ConfigError, SceneError
from prithvi.fitted import FittedModel
from prithvi.mapping.blend import Predict, blend
from prithvi.mapping.cog import NODATA, ClassCogWriter
from prithvi.models import Standardise
from prithvi.scenes import conform, transform_of

GDAL_CACHE = 64_000_000
"""Bytes of file blocks that GDAL keeps while a map is made."""


@dataclass(frozen=True)
class MapResult:
    """A written map."""

    path: Path
    pixels: dict[str, int]
    """Class name to number of pixels."""
    without_data: int
    """Pixels of the scene without data."""


def map_scene(
    fitted: FittedModel,
    scene: xr.DataArray,
    path: str | Path,
    *,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> MapResult:
    """Writes the most likely class of every pixel as a Cloud-Optimized GeoTIFF.

    Args:
        fitted: what `prithvi.load` gives for a model folder.
        scene: what `prithvi.open_scene` gives.
        path: the file to write; it appears when it is whole, and an older one stays until then.
        stride: pixels between windows; default half a window.
        batch_size: windows predicted at once.
        device: torch device; default a GPU where there is one.
        accept: see `prithvi.scenes.conform`.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model; nothing is written.
        OutputError: the file cannot be written.

    """
    path = Path(path)
    _check_shape(fitted, scene)
    scene = conform(scene, fitted.contract, accept)
    plan = windows.plan(
        scene.sizes["y"], scene.sizes["x"], fitted.window, max(1, fitted.window // 2) if stride is None else stride
    )
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(plan))

    counts = np.zeros(256, dtype=np.int64)
    tags = {
        "PRITHVI_MODEL": fitted.model.config.architecture,
        "PRITHVI_WEIGHTS_SHA256": fitted.sha256,
        "PRITHVI_INPUT": str(scene.attrs.get("source", "")),
        "PRITHVI_ACCEPTED": ",".join(scene.attrs.get("accepted", [])),
    }
    told = {key: value for key, value in tags.items() if value}
    # GDAL would keep a share of all memory in blocks, which a map from top to bottom never asks for again.
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), ClassCogWriter(path, scene, fitted.classes, told) as writer:
        for rows in blend(scene, fitted.contract, _predictor(fitted, scene, device), plan, batch_size, count):
            classes = _classes(rows.scores, rows.valid)
            counts += np.bincount(classes.ravel(), minlength=256)
            writer.write(rows.start, classes)
        writer.finish()
    return MapResult(path, {entry.name: int(counts[entry.value]) for entry in fitted.classes}, int(counts[NODATA]))


def _check_shape(fitted: FittedModel, scene: xr.DataArray) -> None:
    if fitted.task != "segmentation":
        raise ConfigError(f"a map of classes needs a segmentation model; this one is for {fitted.task}.")
    patch = max(fitted.model.config.patch_size[1:])
    if min(scene.sizes["y"], scene.sizes["x"]) < patch:
        raise SceneError(
            f"{scene.attrs.get('source', 'the scene')} has {scene.sizes['y']} x {scene.sizes['x']} pixels, fewer than "
            f"one patch of the model ({patch} x {patch})."
        )
    frames = fitted.model.config.num_frames
    if scene.sizes["time"] != frames:
        raise SceneError(
            f"{scene.attrs.get('source', 'the scene')} has {scene.sizes['time']} "
            f"{'date' if scene.sizes['time'] == 1 else 'dates'}, and the model wants {frames}."
        )


def _classes(scores: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    if len(scores) == 0:
        return np.full(valid.shape, NODATA, dtype=np.uint8)
    return np.where(valid, scores.argmax(axis=0), NODATA).astype(np.uint8)


def _predictor(fitted: FittedModel, scene: xr.DataArray, device: str | torch.device | None) -> Predict:
    place = device_of(device)
    model = fitted.model.to(place).eval()
    standardise = Standardise(fitted.contract).to(place)
    dates = dates_of(scene) if fitted.coordinates else None

    @torch.inference_mode()
    def predict(pixels: torch.Tensor, valid: torch.Tensor, middles: list[tuple[float, float]]) -> torch.Tensor:
        images = standardise(pixels.to(place), valid.to(place))
        coordinates = {}
        if fitted.coordinates:
            coordinates["location_coords"] = locations_of(scene, middles).to(place)
            if dates is not None:
                coordinates["temporal_coords"] = dates.expand(len(images), -1, 2).to(place)
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=place.type == "cuda"):
            scores: torch.Tensor = model(images, **coordinates)
        return scores

    return predict


def dates_of(scene: xr.DataArray) -> torch.Tensor | None:
    """(1, T, 2) year and day of year from 0, or None where the scene has no dates."""
    if "time" not in scene.coords:
        return None
    year, day = scene["time"].dt.year.values, scene["time"].dt.dayofyear.values - 1
    return torch.from_numpy(np.stack([year, day], axis=-1).astype(np.float32))[None]


def locations_of(scene: xr.DataArray, middles: list[tuple[float, float]]) -> torch.Tensor:
    """(B, 2) latitude and longitude of scene rows and columns."""
    rows, columns = zip(*middles, strict=True)
    xs, ys = rasterio.transform.xy(transform_of(scene), rows, columns, offset="ul")
    longitude, latitude = project(scene.rio.crs, "EPSG:4326", list(xs), list(ys))
    return torch.tensor([latitude, longitude], dtype=torch.float32).T


def device_of(asked: str | torch.device | None) -> torch.device:
    """The device asked for, or a GPU where there is one.

    Raises:
        ConfigError: there is no such device here.

    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.zeros(1, device=device)
    # Torch's three ways to say no: an unknown or absent device, a build without CUDA, a backend without kernels.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"there is no device {asked!r} here: 'prithvi doctor' lists what there is.") from error
    return device
