"""`prithvi.embed` and `prithvi.mapping.embed_scene`: what an encoder sees in every block of pixels of a scene."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import ConfigError, ModelError
from prithvi.mapping.embedding_files import check_form, check_patches, write_embeddings
from prithvi.mapping.engine import Arrays, Part, Progress, Target, as_dataset, blank, placed
from prithvi.mapping.inference import scoring
from prithvi.mapping.sliding_window import rows_of
from prithvi.modelio import load
from prithvi.modelio.loader import on_disk, opened_as_it_is
from prithvi.modelio.model_files import Requirements, check_size
from prithvi.modelio.predictor import Predictor, Scorer
from prithvi.models import Encoder, PrithviMAE, Standardise
from prithvi.models.branch import FusedBranch, pixel_features
from prithvi.models.heads import tokens_to_grid
from prithvi.products.products import BESIDE, left_over
from prithvi.products.provenance import Provenance
from prithvi.scenes import conform
from prithvi.scenes.grids import grid_of_array, is_turned, write_grid

Embeddable = str | Path | PrithviMAE | Encoder | Predictor
"""Name, hub id, file or folder of a pretrained or fine-tuned model, or what `prithvi.load` gives for one."""


def embed(
    scene: xr.DataArray,
    model: Embeddable,
    *,
    layer: int = -1,
    pooled: bool = False,
    pixels: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
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
        pixels: one vector a pixel instead, of the per-pixel branch with the tokens that it is fused with; our own small
            models and those with the head `fused` have one.
        window: side of the squares that are looked at, in pixels; default the one that the model was trained on.
        stride: pixels between them; default half a window, where tokens of several windows are blended; pooled ones
            stand side by side.
        batch_size: windows predicted at once; default see `prithvi.windows.at_once`.
        device: torch device; default a GPU where there is one.
        accept: see `prithvi.scenes.conform`.

    Returns:
        `embedding` (step, feature, y, x) float16, a step for each date (or as many as a patch spans), NaN where no
        pixel of a block has data in every band on any date. `time` (step) is its date. Blocks at the far edges may hang
        over them; what lies beyond is mirrored.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model.
        ModelError: the model has no encoder, or for `pixels` no branch.
        ConfigError: no such layer, a window or a stride that patches do not divide, or `pixels` beside `pooled` or a
            layer.
        CheckpointError, HubError: see `prithvi.load`.

    """
    run, target = _run(
        model, scene, (layer, pooled, pixels), window, stride, batch_size, device, accept, "prithvi.embed"
    )
    return as_dataset(run, target)


def embed_scene(
    model: Embeddable,
    scene: xr.DataArray,
    path: str | Path,
    *,
    layer: int = -1,
    pooled: bool = False,
    pixels: bool = False,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    accept: Sequence[str] = (),
    dtype: str = "float16",
    patches: bool = False,
    zarr_format: int = 2,
    command: str = "prithvi.embed_scene",
    progress: Progress | None = None,
) -> Path:
    """Writes the embeddings of a scene; memory depends on its width and never on its height.

    Args:
        model: this and all that is not said here: see `embed`.
        scene: what `prithvi.open_scene` gives.
        path: .tif (a Cloud-Optimized GeoTIFF, a band a feature and step) or .zarr (a Zarr store of
            what `embed` gives). It appears when it is whole, and an older one stays until then.
        layer: which block of the encoder.
        pooled: one vector a window instead of one a patch.
        pixels: one vector a pixel instead of one a patch.
        window: side of the squares that are looked at, in pixels.
        stride: pixels between them.
        batch_size: windows predicted at once; default see `prithvi.windows.at_once`.
        device: torch device; default a GPU where there is one.
        accept: see `prithvi.scenes.conform`.
        dtype: `float16`, or `int8`: whole numbers with one scale for all, -128 where there is no data; what is meant
            is number x scale, as xarray (`scale_factor`) and GDAL (scale of a band) read it by themselves.
        patches: whether to write NAME.parquet beside: a GeoParquet with a row a patch (or window) and step, its
            outline and its vector.
        zarr_format: of a store; see `prithvi.mapping.zarrfile.FORMATS`.
        command: written to the file as the command that made it.
        progress: called with the windows done and their number in all.

    Raises:
        OutputError: it cannot be written.
        ConfigError: another suffix, or see `embed`.
        SceneError, BandError, ScaleError, ModelError: see `embed`.

    Warns:
        UserWarning: vectors have values that are no numbers, or absurd ones, borders of windows show, or whole numbers
            say too little; PRITHVI_CHECKED in the file says it too, and what was seen otherwise.

    """
    path = Path(path)
    check_form(path, dtype)  # before a model is opened
    run, target = _run(model, scene, (layer, pooled, pixels), window, stride, batch_size, device, accept, command)
    if patches:
        check_patches(run.cell, target.grid)
    write_embeddings(run, target, path, run.origin, dtype, patches, zarr_format, progress)
    table = path.with_suffix(".parquet")
    named = [table] if path.suffix == ".zarr" else [path.with_name(path.stem + end) for end in BESIDE[1:]]
    for note in left_over(named, [table] if patches else (), "these embeddings"):
        warnings.warn(note, stacklevel=2)
    return path


class Embedder(nn.Module):
    """An encoder's tokens as images; standardisation included.

    Args:
        encoder: what to look with.
        contract: units and statistics of the pixels.
        layer: which block, counted from 0, or from -1 (the last, normalised) backwards.
        pooled: one mean over all places instead of each place's token.
        branch: give its features of each pixel instead, fused with the last tokens.

    Raises:
        ConfigError: there is no such block.

    """

    def __init__(
        self,
        encoder: Encoder,
        contract: Contract,
        layer: int = -1,
        pooled: bool = False,
        branch: FusedBranch | None = None,
    ) -> None:
        super().__init__()
        depth = encoder.config.depth
        if not -depth <= layer < depth:
            told = f"the encoder has {depth}, 0 to {depth - 1} (or -1 backwards)"
            raise ConfigError(f"there is no layer {layer}: {told}.")
        self.encoder, self.standardise = encoder, Standardise(contract)
        self.layer, self.pooled, self.branch = layer % depth, pooled, branch

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, band, T, Y, X) in the contract's units, NaN without data, to (B, t*D, y, x) of t steps of time."""
        images = self.standardise(images)
        if self.branch is not None:
            return pixel_features(self.encoder, self.branch, images, temporal_coords, location_coords).flatten(1, 2)
        layers = self.encoder.forward_features(images, temporal_coords, location_coords)
        grid = tokens_to_grid(layers[self.layer], self.encoder.grid_of(images))
        return grid.mean(dim=(2, 3), keepdim=True) if self.pooled else grid


@dataclass(frozen=True)
class EmbedRun:
    """An encoder's vectors over a scene; a `prithvi.mapping.engine.Run`."""

    module: Embedder
    contract: Contract
    coordinates: bool
    """Whether the encoder was trained with dates and places."""
    window: int
    """Side of the squares that are looked at, in pixels."""
    origin: Provenance
    batch_size: int = 8
    device: str | torch.device | None = None

    @property
    def cell(self) -> int:
        """Pixels along the side of one vector."""
        if self.module.branch is not None:
            return 1
        return self.window if self.module.pooled else max(self.module.encoder.config.patch_size[1:])

    @property
    def shape(self) -> tuple[int, int]:
        """Steps of time and features of a vector."""
        config = self.module.encoder.config
        if self.module.branch is not None:
            return config.num_frames, self.module.branch.width
        return config.num_frames // config.patch_size[0], config.embed_dim

    def target(self, scene: xr.DataArray, stride: int | None) -> Target:
        """Windows over the scene and what of its last blocks hangs over its far edges.

        Args:
            scene: of as many dates as the encoder takes.
            stride: pixels between windows; default half a window, a whole one where each gives one vector.

        Raises:
            ConfigError: a stride that blocks do not divide.

        """
        cell, whole = self.cell, grid_of_array(scene)
        step = max(cell, self.window // 2 // cell * cell) if stride is None else stride
        if step % cell:
            raise ConfigError(f"a stride of {step} pixels is no whole number of blocks of {cell}.")
        height, width = -(-scene.sizes["y"] // cell), -(-scene.sizes["x"] // cell)
        plan = windows.plan(height * cell, width * cell, self.window, step)
        transform, coords = whole.affine @ Affine.scale(cell), {}
        if "x" in scene.coords and "y" in scene.coords and not is_turned(whole):
            coords = {
                "x": transform.c + transform.a * (np.arange(width) + 0.5),
                "y": transform.f + transform.e * (np.arange(height) + 0.5),
            }
        grid = xr.DataArray(np.broadcast_to(np.False_, (height, width)), dims=("y", "x"), coords=coords)
        grid = grid.rio.write_crs(scene.rio.crs) if scene.rio.crs is not None else grid
        grid = write_grid(grid, GeoBox((height, width), transform, whole.crs))
        return Target.whole(scene, plan, grid, cell)

    def outputs(self, target: Target) -> xr.Dataset:
        """What `embed` gives, blank."""
        forms = {"embedding": (("step", "feature"), blank((*self.shape, *target.grid.shape), "float16"))}
        result, scene = placed(forms, target.grid), target.scene
        if "time" in scene.coords and self.shape[0] == scene.sizes["time"]:  # else a step is several dates
            result = result.assign_coords(time=("step", scene["time"].values))
        more = {"LAYER": self.module.layer, "POOLED": self.module.pooled, "WINDOW": self.window}
        if self.module.branch is not None:
            more["PIXELS"] = True
        tags = {f"PRITHVI_{key}": str(value) for key, value in more.items()}
        return result.assign_attrs({**self.origin.tags(), **tags})

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """See `prithvi.mapping.engine.Run`."""
        pixels = rows_of(scene, self.contract, part.tally)
        options: dict[str, Any] = {"device": self.device, "concurrent": True}
        with scoring(self.module, part.place, self.coordinates, self.window, self.batch_size, **options) as by:
            for rows in part.blend(pixels, scene, by.predict, by.batch_size, ahead=by.ahead):
                found = np.full((*self.shape, *rows.valid.shape), np.nan, np.float16)
                if len(rows.scores):
                    # Rounded here, so that arrays and files of either kind hold the same numbers.
                    scores = rows.scores.cpu().numpy().astype(np.float16).reshape(found.shape)
                    found = np.where(rows.valid, scores, found)
                yield rows.start, {"embedding": found}


def _run(
    model: Embeddable,
    scene: xr.DataArray,
    what: tuple[int, bool, bool],
    window: int | None,
    stride: int | None,
    batch_size: int | None,
    device: str | torch.device | None,
    accept: Sequence[str],
    command: str,
) -> tuple[EmbedRun, Target]:
    """What is run on which windows; a model that is named is laid out for the scene's number of dates."""
    layer, pooled, pixels = what
    if pixels and (pooled or layer != -1):
        raise ConfigError("vectors of pixels are of the branch and the last layer: leave out layer and pooled.")
    found: Embeddable = model
    if isinstance(model, (str, Path)):
        found = load(model, num_frames=None if opened_as_it_is(on_disk(model)) else scene.sizes["time"])
    encoder: Encoder | None
    if isinstance(found, Predictor):
        if not isinstance(found.module, Scorer):
            raise ModelError(f"{found.name} is an exported program, which gives no embeddings: take its model folder.")
        encoder, contract, coordinates, side = found.model.encoder, found.contract, found.coordinates, found.window
        origin = Provenance(found.model.config.architecture, found.sha256, model_folder=found.folder)
        branch = getattr(found.model.head, "branch", None)
    elif isinstance(found, (PrithviMAE, Encoder)):
        encoder = found if isinstance(found, Encoder) else found.encoder
        contract, coordinates = found.contract, bool(found.config.coords_encoding)
        side, origin = max(found.config.img_size), Provenance(found.config.architecture)
        branch = getattr(found, "branch", None)
    else:
        raise ModelError(f"a {type(found).__name__} gives no embeddings: take what prithvi.load gives.")
    if encoder is None:
        raise ModelError(f"{origin.model} has no encoder to embed with: take a pretrained or a fine-tuned Prithvi.")
    if pixels and branch is None:
        raise ModelError(
            f"{origin.model} has no per-pixel branch: take a vector a patch (without pixels), prithvi_hls_tiny, or a "
            "model that was fine-tuned with the head fused."
        )
    patch, size = max(encoder.config.patch_size[1:]), side if window is None else window
    if size % patch:
        raise ConfigError(f"a window of {size} pixels is no whole number of patches of {patch}.")
    module = Embedder(encoder, contract, layer, pooled, branch if pixels else None).eval()
    run = EmbedRun(module, contract, coordinates, size, origin, device=device)
    check_size(Requirements(contract, encoder.config.num_frames, patch), scene)
    target = run.target(scene, stride)  # a stride that does not fit is said before any pixel is looked at
    scene = conform(scene, contract, accept)
    run = replace(run, batch_size=batch_size or windows.at_once(size), origin=origin.of_scene(scene, command))
    return run, replace(target, scene=scene)
