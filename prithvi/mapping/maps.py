"""A model and a scene to a map and what stands beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import torch
import xarray as xr

from prithvi import windows
from prithvi.errors import ConfigError, OutputError
from prithvi.mapping.answers import Answers
from prithvi.mapping.beside import Products, make_beside
from prithvi.mapping.blend import blend
from prithvi.mapping.memory import frugal
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.rasters import NODATA, Grid, RasterWriter
from prithvi.mapping.scoring import Ground, Model, Scoring, mappable
from prithvi.mapping.strips import Mask, look_over, rows_of
from prithvi.modelio.predictor import Mappable
from prithvi.modelio.requirements import check_size
from prithvi.scenes import conform, transform_of
from prithvi.scenes.area import Area, crop
from prithvi.scenes.conform import units_of
from prithvi.scenes.pixels import source_of
from prithvi.scenes.remote import shown
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan


@dataclass(frozen=True)
class MapResult:
    """A written map."""

    path: Path
    pixels: dict[str, int]
    """Class name to number of pixels; of a quantity, its name to the pixels that have a value."""
    without_data: int
    """Pixels of the map without data."""
    files: tuple[Path, ...] = ()
    """All that was written."""
    notes: tuple[str, ...] = ()
    """Which pixels were taken as missing though nobody declares them so; what could not be made, and why."""


@dataclass(frozen=True)
class Target:
    """The part of a scene that is mapped, and the windows for it."""

    scene: xr.DataArray
    """All that the windows cover."""
    plan: WindowPlan
    rows: slice
    """Of the map within `scene`."""
    columns: slice
    mask: Callable[[int, int], Mask] | None
    """(rows, width) of rows of `scene`: where an answer is asked for."""
    map: xr.DataArray
    """What the map's pixels lie on."""

    @classmethod
    def of(cls, scene: xr.DataArray, window: int, stride: int | None, area: Area | None = None) -> Target:
        """The windows of the whole scene, or those of them that touch an area; only their pixels are read."""
        step = max(1, window // 2) if stride is None else stride
        plan = windows.plan(scene.sizes["y"], scene.sizes["x"], window, step)
        if area is None:
            everything = slice(0, scene.sizes["y"]), slice(0, scene.sizes["x"])
            return cls(scene, plan, *everything, None, scene)
        down, along = area.window(scene)
        part, rows, columns = plan.over(down, along)
        seen = crop(scene, rows, columns)
        # Where the scene's pixels lie and no pixels: the mask may travel to other processes.
        whole = scene.isel(time=0, band=0, drop=True)
        whole = whole.copy(data=da.zeros(whole.shape, bool, chunks=-1))

        def mask(first: int, last: int) -> Mask:
            """Within the box of the area, so that a window is not run for its margin alone."""
            return area.mask(whole, slice(rows.start + first, rows.start + last), columns)

        return cls(
            seen, part, slice(down.start - rows.start, down.stop - rows.start),
            slice(along.start - columns.start, along.stop - columns.start), mask, crop(scene, down, along),
        )  # fmt: skip


def map_scene(
    model: Model,
    scene: xr.DataArray,
    path: str | Path,
    *,
    products: Products | None = None,
    area: Area | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    compile: bool = False,
    accept: Sequence[str] = (),
    resume: bool = False,
    command: str = "prithvi.map_scene",
    progress: Callable[[int, int], None] | None = None,
) -> MapResult:
    """Writes the most likely class of every pixel, or a quantity, as a Cloud-Optimized GeoTIFF.

    Args:
        model: a model folder or exported program, or what `prithvi.load` gives for one.
        scene: what `prithvi.open_scene` gives.
        path: the file to write; it appears when it is whole, and an older one stays until then.
        products: what to write beside it; default nothing.
        area: map this part only; the answers there are those of the whole map but for their last digits, as other
            windows are predicted together. None maps everything.
        stride: pixels between windows; default half a window.
        batch_size: windows predicted at once.
        device: torch device; default a GPU where there is one.
        compile: see `prithvi.mapping.scoring.Scoring`.
        accept: see `prithvi.scenes.conform`.
        resume: go on from the rows that an interrupted run of the same finished.
        command: what stands in the files as the command that made them.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model; nothing is written.
        OutputError: a file cannot be written. The finished rows are kept.

    """
    path, model, wanted = Path(path), mappable(model), products or Products()
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"a map is a GeoTIFF: name {path} .tif.")
    check_size(model, scene)
    wanted.check(model, scene)
    scene = conform(scene, model.contract, accept)
    target = Target.of(scene, model.window, stride, area)
    notes: tuple[str, ...] = ()
    origin = Provenance.of(model, scene, command)
    tally = Tally(scene.sizes["time"], target.scene.sizes["y"], target.rows, target.columns, target.mask)
    answers = Answers(model, wanted.needs_confidence, wanted.probabilities)
    rasters = answers.rasters(path.stem, origin.tags())
    rasters[0] = replace(rasters[0], name=path.name)
    source = _fingerprint(scene)
    key = {
        "model": model.facts(), "input": source, "rows": target.plan.rows, "columns": target.plan.columns,
        "area": [area.crs.to_wkt(), *(shape.wkt for shape in area.polygons)] if area is not None else [],
        "batch": batch_size, "compile": compile, "device": str(device), "products": str(wanted),
        "zones": _state(str(wanted.zones or "")), "software": origin.software,
    }  # fmt: skip
    beside = wanted.files(path, model, "time" in scene.coords)
    _check_apart((path, *beside), [*source["states"], *([str(wanted.zones)] if wanted.zones is not None else [])])
    with (
        frugal(target.scene),
        RasterWriter(path.parent, Grid.of(target.map), rasters, key, resume) as writer,
    ):
        if not (writer.made and all(file.is_file() for file in beside)):
            with Scoring(
                model.module, Ground.of(target.scene), model.coordinates, batch_size, device, compile=compile,
                concurrent=model.concurrent,
            ) as scoring:  # fmt: skip
                _write_rows(writer, target, model, answers, scoring, tally, progress)
            origin = replace(origin, left_out=tally.sentence(*units_of(scene, model.contract)))
            writer.tag(origin.tags())
            notes = make_beside(writer.make(), path.parent, wanted, model, target.map, origin)
            writer.publish()
    return MapResult(path, *_count(path, model), (path, *beside), (*_told(path), *notes))


def _write_rows(
    writer: RasterWriter,
    target: Target,
    model: Mappable,
    answers: Answers,
    scoring: Scoring,
    tally: Tally,
    progress: Callable[[int, int], None] | None,
) -> None:
    begin = target.rows.start + writer.start
    above = sum(row + model.window <= begin for row in target.plan.rows) * len(target.plan.columns)
    done = above

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(target.plan))

    if progress is not None:
        progress(done, len(target.plan))
    scene, offset = target.scene, writer.start
    pixels = rows_of(scene, model.contract, tally)
    look_over(pixels, target.rows.start, begin)
    found = blend(
        pixels, (scene.sizes["y"], scene.sizes["x"]), scoring, target.plan,
        batch_size=scoring.batch_size, part=(slice(begin, target.rows.stop), target.columns), wanted=target.mask,
        progress=count,
    )  # fmt: skip
    for rows in found:
        writer.write(offset + rows.start, answers(rows))
        if rows.last:
            writer.keep()


def _check_apart(outputs: Sequence[Path], inputs: Sequence[str]) -> None:
    there = [file for file in outputs if file.exists()]
    for name in filter(os.path.exists, inputs):
        for file in there:
            if file.samefile(name):
                raise OutputError(f"{file} is read for the map and would be written over: choose another folder.")


def _count(path: Path, model: Mappable) -> tuple[dict[str, int], int]:
    """Pixels of each class, or those that have a value, and those without data."""
    counts = np.zeros(256, dtype=np.int64)
    with rasterio.open(path) as raster:
        for _, part in raster.block_windows(1):
            values = raster.read(1, window=part)
            values = values if model.classes else np.where(np.isfinite(values), 0, NODATA).astype(np.uint8)
            counts += np.bincount(values.ravel(), minlength=256)
    numbers = {entry.name: entry.value for entry in model.classes} or {str(model.quantity and model.quantity.name): 0}
    return {name: int(counts[number]) for name, number in numbers.items()}, int(counts[NODATA])


def _told(path: Path) -> tuple[str, ...]:
    """What a map's own tags say of pixels that were left out."""
    with rasterio.open(path) as raster:
        left_out = Provenance.from_tags(raster.tags()).left_out
    return (left_out,) if left_out else ()


def _fingerprint(scene: xr.DataArray) -> dict[str, Any]:
    """What a scene is told from another by: its files, their bands and what becomes of these."""
    pixels = source_of(scene)
    planes = [plane for step in pixels.planes for plane in step] if pixels is not None else []
    return {
        "source": str(scene.attrs.get("source", "")),
        "planes": [{**asdict(plane), "path": shown(plane.path)} for plane in planes],
        "states": {shown(plane.path): _state(plane.path) for plane in planes},
        "shape": list(scene.shape), "transform": list(transform_of(scene))[:6],
        "gain": scene.attrs.get("gain"), "bias": scene.attrs.get("bias"),
        "times": [str(time) for time in scene["time"].values] if "time" in scene.coords else [],
    }  # fmt: skip


def _state(path: str) -> list[int]:
    """Size and time of a file; nothing of an address."""
    if not os.path.isfile(path):  # which an address may be too long to ask of a Path
        return []
    return [os.path.getsize(path), os.stat(path).st_mtime_ns]
