"""`prithvi.embed` and its files: what an encoder sees in every block of pixels, with its place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
import xarray as xr
from affine import Affine
from torch import Tensor, nn

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import ConfigError, ModelError, OutputError, SceneError
from prithvi.fitted import FittedModel, Mappable
from prithvi.mapping.arrays import placed
from prithvi.mapping.blend import BlendedRows, blend
from prithvi.mapping.lazily import Form, Values, in_rows
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.rasters import GDAL_CACHE, Grid, Raster, RasterWriter
from prithvi.mapping.scoring import Ground, Scoring
from prithvi.mapping.strips import rows_of
from prithvi.modelfolder import load
from prithvi.models import PrithviEncoder, PrithviMAE, Standardise
from prithvi.models.heads import tokens_to_grid
from prithvi.scenes import conform, transform_of
from prithvi.windows import WindowPlan


class Embedder(nn.Module):
    """An encoder's tokens as images; standardisation included.

    Args:
        encoder: what to look with.
        contract: units and statistics of the pixels.
        layer: which block, counted from 0, or from -1 backwards.
        pooled: one mean over all places instead of each place's token.

    Raises:
        ConfigError: there is no such block.

    """

    def __init__(self, encoder: PrithviEncoder, contract: Contract, layer: int = -1, pooled: bool = False) -> None:
        super().__init__()
        depth = encoder.config.depth
        if not -depth <= layer < depth:
            raise ConfigError(
                f"there is no layer {layer}: the encoder has {depth}, 0 to {depth - 1} (or -1 backwards)."
            )
        self.encoder, self.standardise, self.layer, self.pooled = encoder, Standardise(contract), layer, pooled

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, band, T, Y, X) in the contract's units, NaN without data, to (B, t*D, y, x) of t steps of time."""
        images = self.standardise(images)
        layers = self.encoder.forward_features(images, temporal_coords, location_coords)
        grid = tokens_to_grid(layers[self.layer], self.encoder.grid_of(images))
        return grid.mean(dim=(2, 3), keepdim=True) if self.pooled else grid


@dataclass(frozen=True)
class Embedding:
    """How a scene is embedded."""

    module: Embedder
    contract: Contract
    coordinates: bool
    window: int
    cell: int
    """Pixels along the side of one vector."""
    features: int
    steps: int
    name: str
    sha256: str
    folder: str

    @classmethod
    def of(
        cls, model: str | Path | PrithviMAE | FittedModel, layer: int, pooled: bool, window: int | None, dates: int
    ) -> Embedding:
        """With a pretrained or fine-tuned model.

        Raises:
            ModelError: the model has no encoder, or takes another number of dates.
            ConfigError: no such layer, or a window that patches do not divide.

        """
        sha256 = folder = ""
        if isinstance(model, (str, Path)):
            found = load(model, num_frames=dates) if not (Path(model) / "config.json").is_file() else load(model)
        else:
            found = model
        encoder: PrithviEncoder | None
        if isinstance(found, FittedModel):
            encoder, contract, coordinates = found.model.encoder, found.contract, found.coordinates
            side, sha256, folder = found.window, found.sha256, found.folder
        elif isinstance(found, Mappable):
            raise ModelError(f"{found.name} is an exported program, which gives no embeddings: take its model folder.")
        else:
            encoder, contract, coordinates = found.encoder, found.contract, bool(found.config.coords_encoding)
            side = found.config.img_size[0]
        if encoder is None:
            raise ModelError(f"{model} has no encoder to embed with: take a pretrained or a fine-tuned model.")
        config = encoder.config
        if config.num_frames != dates:
            raise ModelError(f"the model was made for {config.num_frames} dates, and the scene has {dates}.")
        patch, size = config.patch_size[1], window or side
        if size % patch:
            raise ConfigError(f"a window of {size} pixels is no whole number of patches of {patch}.")
        module = Embedder(encoder, contract, layer, pooled).eval()
        steps = config.num_frames // config.patch_size[0]
        return cls(
            module, contract, coordinates, size, size if pooled else patch, config.embed_dim, steps,
            config.architecture, sha256, folder,
        )  # fmt: skip

    def plan(self, scene: xr.DataArray, stride: int | None) -> WindowPlan:
        """Windows over the scene and what of its last blocks hangs over its edges.

        Raises:
            ConfigError: a stride that blocks do not divide.
            SceneError: a scene smaller than a patch.

        """
        patch = self.module.encoder.config.patch_size[1]
        if min(scene.sizes["y"], scene.sizes["x"]) < patch:
            raise SceneError(
                f"{scene.attrs.get('source', 'the scene')} has {scene.sizes['y']} x {scene.sizes['x']} pixels, fewer "
                f"than one patch of the model ({patch} x {patch})."
            )
        half = max(self.cell, self.window // 2 // self.cell * self.cell)
        step = stride or half
        if step % self.cell:
            raise ConfigError(f"a stride of {step} pixels is no whole number of blocks of {self.cell}.")
        height, width = (-(-scene.sizes[axis] // self.cell) * self.cell for axis in ("y", "x"))
        return windows.plan(height, width, self.window, step)

    def ground(self, scene: xr.DataArray) -> xr.DataArray:
        """An empty scene of the blocks: their grid, for files and coordinates."""
        height, width = (-(-scene.sizes[axis] // self.cell) for axis in ("y", "x"))
        transform = transform_of(scene) @ Affine.scale(self.cell)
        coords = {}
        if "x" in scene.coords and "y" in scene.coords:
            coords = {
                "x": transform.c + transform.a * (np.arange(width) + 0.5),
                "y": transform.f + transform.e * (np.arange(height) + 0.5),
            }
        blank = xr.DataArray(np.empty((height, width), bool), dims=("y", "x"), coords=coords)
        blank = blank.rio.write_crs(scene.rio.crs) if scene.rio.crs is not None else blank
        written: xr.DataArray = blank.rio.write_transform(transform)
        return written.assign_attrs(shape=(height, width))

    def origin(self, scene: xr.DataArray, command: str) -> Provenance:
        """What stands in the files."""
        source = str(scene.attrs.get("source", ""))
        accepted = tuple(map(str, scene.attrs.get("accepted", ())))
        return Provenance(self.name, self.sha256, (source,) if source else (), command, accepted, self.folder)


def embed(
    scene: xr.DataArray,
    model: str | Path | PrithviMAE | FittedModel,
    *,
    layer: int = -1,
    pooled: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: tuple[str, ...] = (),
) -> xr.Dataset:
    """Embeddings of a scene, with their place.

    Args:
        scene: what `prithvi.open_scene` gives. Where it is lazy the answer is, and is computed by rows when asked for.
        model: name, hub id or folder of a model, or what `prithvi.load` gives for one.
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
        pixel of a block has data in every band.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model.
        ModelError, ConfigError: see `Embedding`.

    """
    found = Embedding.of(model, layer, pooled, window, scene.sizes["time"])
    scene = conform(scene, found.contract, accept)
    plan = found.plan(scene, stride if not pooled else found.cell)
    run = _EmbedRows(found, Ground.of(scene), scene.attrs, batch_size, device)
    form = Form((found.steps, found.features), "float16")
    arrays = in_rows(scene, plan, run, {"embedding": form}, found.cell)
    result = placed(arrays, found.ground(scene), ("step", "feature"))
    result.attrs = found.origin(scene, "prithvi.embed").tags()
    return result


def embed_scene(
    model: str | Path | PrithviMAE | FittedModel,
    scene: xr.DataArray,
    path: str | Path,
    *,
    layer: int = -1,
    pooled: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: tuple[str, ...] = (),
    command: str = "prithvi.embed_scene",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes embeddings as a Cloud-Optimized GeoTIFF (path.tif: a band a feature, 16-bit floats) or a Zarr store
    (path.zarr: float16 (step, feature, y, x), consolidated). For the arguments see `embed`.

    Raises:
        OutputError: it cannot be written.
        ConfigError: another suffix.
        SceneError, BandError, ScaleError, ModelError: see `embed`.

    """
    path = Path(path)
    if path.suffix not in (".tif", ".tiff", ".zarr"):
        raise ConfigError(f"embeddings are written as .tif or .zarr; {path} is neither.")
    found = Embedding.of(model, layer, pooled, window, scene.sizes["time"])
    origin = found.origin(scene, command)
    if path.suffix == ".zarr":
        result = embed(
            scene.chunk() if scene.chunks is None else scene, model, layer=layer, pooled=pooled, window=window,
            stride=stride, batch_size=batch_size, device=device, accept=accept,
        )  # fmt: skip
        return _write_zarr(result.assign_attrs(origin.tags()), path)
    scene = conform(scene, found.contract, accept)
    plan = found.plan(scene, stride if not pooled else found.cell)
    names = tuple(f"step{step} feature{feature}" for step in range(found.steps) for feature in range(found.features))
    raster = Raster(path.name, names, "float32", float("nan"), origin.tags(), half=True)
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(plan))

    scoring = Scoring(found.module, Ground.of(scene), found.coordinates, device)
    grid = Grid.of(found.ground(scene))
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), RasterWriter(path.parent, grid, [raster]) as writer:
        size = scene.sizes["y"], scene.sizes["x"]
        rows = rows_of(scene, found.contract)
        for slab in blend(rows, size, scoring, plan, batch_size=batch_size, cell=found.cell, progress=count):
            writer.write(slab.start, [_vectors(slab, len(names))])
        writer.make()
        writer.publish()
    return path


def _vectors(slab: BlendedRows, number: int) -> npt.NDArray[np.float32]:
    """(features, rows, width), NaN without data."""
    if len(slab.scores) == 0:
        return np.full((number, *slab.valid.shape), np.nan, np.float32)
    return np.where(slab.valid, slab.scores.cpu().numpy(), np.float32(np.nan))


@dataclass(frozen=True)
class _EmbedRows:
    """Some rows of a scene embedded; see `prithvi.mapping.lazily.Run`."""

    how: Embedding
    where: Ground
    attrs: dict[str, Any]
    batch_size: int
    device: str | torch.device | None

    def __call__(self, pixels: npt.NDArray[Any], plan: WindowPlan, rows: slice, start: int) -> Values:
        how, size = self.how, (pixels.shape[2], pixels.shape[3])
        scene = xr.DataArray(pixels, dims=("time", "band", "y", "x"), attrs=self.attrs)
        scoring = Scoring(how.module, self.where.below(start), how.coordinates, self.device)
        part = (rows, slice(0, -(-size[1] // how.cell)))
        source = rows_of(scene, how.contract)
        slabs = blend(source, size, scoring, plan, batch_size=self.batch_size, cell=how.cell, part=part)
        found = np.concatenate([_vectors(slab, how.steps * how.features) for slab in slabs], axis=1)
        return {"embedding": found.reshape(how.steps, how.features, *found.shape[1:]).astype(np.float16)}


def _write_zarr(result: xr.Dataset, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        try:
            result.to_zarr(work / path.name, consolidated=True, zarr_format=2)
            if path.exists():
                shutil.rmtree(path)
            os.replace(work / path.name, path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    return path
