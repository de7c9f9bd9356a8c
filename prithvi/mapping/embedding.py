"""`prithvi.embed` and its files: what an encoder sees in every block of pixels, with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.errors import ConfigError
from prithvi.mapping.arrays import left_out, placed, tell
from prithvi.mapping.blend import blend
from prithvi.mapping.embedder import Embeddable, Embedding, embedding_raster
from prithvi.mapping.lazily import Form, Values, in_rows
from prithvi.mapping.memory import frugal
from prithvi.mapping.rasters import Grid, RasterWriter
from prithvi.mapping.scoring import Ground, Scoring
from prithvi.mapping.strips import rows_of
from prithvi.mapping.zarrfile import ZarrWriter
from prithvi.scenes import conform
from prithvi.scenes.conform import units_of
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan


def embed(
    scene: xr.DataArray,
    model: Embeddable,
    *,
    layer: int = -1,
    pooled: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: Sequence[str] = (),
) -> xr.Dataset:
    """Embeddings of a scene, with their place.

    Args:
        scene: what `prithvi.open_scene` gives. Where it is lazy the answer is, and is computed by rows when asked for;
            at once only a sample of its values is read, to see that they are what the model expects.
        model: name, hub id or folder of a model, or what `prithvi.load` gives for one. One that is named is laid out
            for as many dates as the scene has.
        layer: which block of the encoder, counted from 0, or from -1 (the last, normalised) backwards.
        pooled: one vector a window, the mean of its tokens, instead of one a patch (16 x 16 pixels, mostly).
        window: side of the squares that are looked at, in pixels; default the one that the model was trained on.
        stride: pixels between them; default half a window, where tokens of several windows are blended; pooled ones
            stand side by side.
        batch_size: windows at once.
        device: torch device; default a GPU where there is one.
        accept: see `prithvi.scenes.conform`.

    Returns:
        `embedding` (step, feature, y, x) float16, a step for each date (or as many as a patch spans), NaN where no
        pixel of a block has data in every band on any date. `time` (step) is its date. Blocks at the far edges may hang
        over them; what lies beyond is mirrored.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model.
        ModelError, ConfigError: see `prithvi.mapping.embedder.Embedding.of`.

    """
    found = Embedding.of(model, scene.sizes["time"], layer=layer, pooled=pooled, window=window)
    plan = found.plan(scene, stride)
    scene = conform(scene, found.contract, accept)
    tally = Tally(scene.sizes["time"], scene.sizes["y"]) if scene.chunks is None else None
    run = _EmbedRows(found, Ground.of(scene), scene.attrs, batch_size, device, tally)
    arrays = in_rows(scene, plan, run, {"embedding": Form(found.shape, "float16")}, found.cell)
    return tell(_dataset(found, scene, arrays, "prithvi.embed"), tally, units_of(scene, found.contract))


def embed_scene(
    model: Embeddable,
    scene: xr.DataArray,
    path: str | Path,
    *,
    layer: int = -1,
    pooled: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: Sequence[str] = (),
    command: str = "prithvi.embed_scene",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the embeddings of a scene; memory depends on its width and never on its height.

    Args:
        model: see `embed`.
        scene: see `embed`.
        path: .tif (a Cloud-Optimized GeoTIFF of 16-bit floats, a band a feature and step) or .zarr (a Zarr store of
            what `embed` gives). It appears when it is whole, and an older one stays until then.
        layer: see `embed`.
        pooled: see `embed`.
        window: see `embed`.
        stride: see `embed`.
        batch_size: see `embed`.
        device: see `embed`.
        accept: see `embed`.
        command: what stands in the file as the command that made it.
        progress: called with the windows done and their number in all.

    Raises:
        OutputError: it cannot be written.
        ConfigError: another suffix, or see `embed`.
        SceneError, BandError, ScaleError, ModelError: see `embed`.

    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise ConfigError(f"embeddings are written as .tif or .zarr, and {path} is neither.")
    found = Embedding.of(model, scene.sizes["time"], layer=layer, pooled=pooled, window=window)
    plan = found.plan(scene, stride)
    scene = conform(scene, found.contract, accept)
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(plan))

    height, width = found.size(scene)
    tally = Tally(scene.sizes["time"], scene.sizes["y"])
    run = _EmbedRows(found, Ground.of(scene), scene.attrs, batch_size, device, tally)
    rows = run.rows(scene, plan, slice(0, height), 0, count)
    if path.suffix.lower() == ".zarr":
        blank = da.zeros((*found.shape, height, width), dtype="float16", chunks=-1)
        with ZarrWriter(path, _dataset(found, scene, {"embedding": blank}, command), "embedding") as store:
            for _, values in rows:
                store.write(values)
            store.tag(left_out(tally, units_of(scene, found.contract)))
            store.publish()
        return path
    raster = embedding_raster(path.name, found.shape, found.tags(scene, command))
    with (
        frugal(scene),
        RasterWriter(path.parent, Grid.of(found.ground(scene)), [raster]) as writer,
    ):
        for start, values in rows:
            writer.write(start, [values.reshape(-1, *values.shape[2:]).astype(np.float32)])
        writer.tag(left_out(tally, units_of(scene, found.contract)))
        writer.make()
        writer.publish()
    return path


@dataclass(frozen=True)
class _EmbedRows:
    """Some rows of a scene embedded; see `prithvi.mapping.lazily.Run`."""

    how: Embedding
    where: Ground
    attrs: dict[str, Any]
    batch_size: int
    device: str | torch.device | None
    tally: Tally | None = None

    def __call__(self, pixels: npt.NDArray[Any], plan: WindowPlan, rows: slice, start: int) -> Values:
        scene = xr.DataArray(pixels, dims=("time", "band", "y", "x"), attrs=self.attrs)
        return {"embedding": np.concatenate([part for _, part in self.rows(scene, plan, rows, start)], axis=-2)}

    def rows(
        self,
        scene: xr.DataArray,
        plan: WindowPlan,
        rows: slice,
        start: int,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, npt.NDArray[np.float16]]]:
        """First row and (step, feature, rows, width), a few rows at a time."""
        how, size = self.how, (scene.sizes["y"], scene.sizes["x"])
        steps, features = how.shape
        with Scoring(
            how.module, self.where.below(start), how.coordinates, self.batch_size, self.device, concurrent=True
        ) as scoring:
            slabs = blend(
                rows_of(scene, how.contract, self.tally), size, scoring, plan, batch_size=self.batch_size,
                cell=how.cell, part=(rows, slice(0, how.size(scene)[1])), progress=progress,
            )  # fmt: skip
            for slab in slabs:
                found = np.full((steps * features, *slab.valid.shape), np.nan, np.float16)
                if len(slab.scores):
                    # Rounded here, so that arrays and files of either kind hold the same numbers.
                    found = np.where(slab.valid, slab.scores.cpu().numpy().astype(np.float16), found)
                yield slab.start, found.reshape(steps, features, *slab.valid.shape)


def _dataset(found: Embedding, scene: xr.DataArray, arrays: Mapping[str, Any], command: str) -> xr.Dataset:
    result = placed(arrays, found.ground(scene), ("step", "feature"))
    dates = found.dates(scene)
    if dates is not None:
        result = result.assign_coords(time=("step", dates))
    return result.assign_attrs(found.tags(scene, command))
