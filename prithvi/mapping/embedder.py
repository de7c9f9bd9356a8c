"""How a scene is embedded: the encoder, its windows, and the grid of the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import ConfigError, ModelError
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.rasters import Raster
from prithvi.modelio import load
from prithvi.modelio.predictor import FittedModel, Scorer
from prithvi.modelio.requirements import check_size
from prithvi.models import PrithviEncoder, PrithviMAE, Standardise
from prithvi.models.heads import tokens_to_grid
from prithvi.scenes.grids import grid_of_array, is_turned, write_grid
from prithvi.windows import WindowPlan

Embeddable = str | Path | PrithviMAE | FittedModel
"""Name, hub id, file or folder of a pretrained or fine-tuned model, or what `prithvi.load` gives for one."""


class Embedder(nn.Module):
    """An encoder's tokens as images; standardisation included.

    Args:
        encoder: what to look with.
        contract: units and statistics of the pixels.
        layer: which block, counted from 0, or from -1 (the last, normalised) backwards.
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
        self.encoder, self.standardise = encoder, Standardise(contract)
        self.layer, self.pooled = layer % depth, pooled

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
    """How scenes of a number of dates are embedded."""

    module: Embedder
    contract: Contract
    coordinates: bool
    """Whether the encoder was trained with dates and places."""
    window: int
    """Side of the squares that are looked at, in pixels."""
    cell: int
    """Pixels along the side of one vector."""
    name: str
    sha256: str = ""
    folder: str = ""

    @classmethod
    def of(cls, model: Embeddable, dates: int, *, layer: int, pooled: bool, window: int | None) -> Embedding:
        """With a pretrained or a fine-tuned model; one that is named is laid out for the number of dates.

        Raises:
            ModelError: the model has no encoder.
            ConfigError: no such layer, or a window that patches do not divide.
            CheckpointError, HubError: see `prithvi.load`.

        """
        found: Embeddable = model
        if isinstance(model, (str, Path)):
            found = load(model, num_frames=None if str(model).endswith(".pt2") else dates)
        encoder: PrithviEncoder | None
        if isinstance(found, FittedModel):
            if not isinstance(found.module, Scorer):
                raise ModelError(
                    f"{found.name} is an exported program, which gives no embeddings: take its model folder."
                )
            encoder, contract, coordinates, side = found.model.encoder, found.contract, found.coordinates, found.window
            name, sha256, folder = found.model.config.architecture, found.sha256, found.folder
        elif isinstance(found, PrithviMAE):
            encoder, contract, coordinates = found.encoder, found.contract, bool(found.config.coords_encoding)
            side, name, sha256, folder = max(found.config.img_size), found.config.architecture, "", ""
        else:
            raise ModelError(f"a {type(found).__name__} gives no embeddings: take what prithvi.load gives.")
        if encoder is None:
            raise ModelError(f"{name} has no encoder to embed with: take a pretrained or a fine-tuned Prithvi.")
        patch, size = max(encoder.config.patch_size[1:]), side if window is None else window
        if size % patch:
            raise ConfigError(f"a window of {size} pixels is no whole number of patches of {patch}.")
        module = Embedder(encoder, contract, layer, pooled).eval()
        return cls(module, contract, coordinates, size, size if pooled else patch, name, sha256, folder)

    @property
    def patch(self) -> int:
        """Pixels along the side of a patch."""
        return max(self.module.encoder.config.patch_size[1:])

    @property
    def frames(self) -> int:
        """Dates that the encoder takes."""
        return self.module.encoder.config.num_frames

    @property
    def shape(self) -> tuple[int, int]:
        """Steps of time and features of a vector."""
        config = self.module.encoder.config
        return config.num_frames // config.patch_size[0], config.embed_dim

    def plan(self, scene: xr.DataArray, stride: int | None) -> WindowPlan:
        """Windows over the scene and what of its last blocks hangs over its far edges.

        Args:
            scene: of as many dates as the encoder takes.
            stride: pixels between windows; default half a window, a whole one where each gives one vector.

        Raises:
            ConfigError: a stride that blocks do not divide.
            SceneError: a scene smaller than a patch, or of other dates.

        """
        check_size(self, scene)
        step = max(self.cell, self.window // 2 // self.cell * self.cell) if stride is None else stride
        if step % self.cell:
            raise ConfigError(f"a stride of {step} pixels is no whole number of blocks of {self.cell}.")
        height, width = (size * self.cell for size in self.size(scene))
        return windows.plan(height, width, self.window, step)

    def size(self, scene: xr.DataArray) -> tuple[int, int]:
        """Rows and columns of vectors over a scene."""
        return -(-scene.sizes["y"] // self.cell), -(-scene.sizes["x"] // self.cell)

    def ground(self, scene: xr.DataArray) -> xr.DataArray:
        """(y, x) of nothing but the place of each block."""
        height, width = self.size(scene)
        whole = grid_of_array(scene)
        transform, coords = whole.affine @ Affine.scale(self.cell), {}
        if "x" in scene.coords and "y" in scene.coords and not is_turned(whole):
            coords = {
                "x": transform.c + transform.a * (np.arange(width) + 0.5),
                "y": transform.f + transform.e * (np.arange(height) + 0.5),
            }
        blank = xr.DataArray(np.broadcast_to(np.False_, (height, width)), dims=("y", "x"), coords=coords)
        blank = blank.rio.write_crs(scene.rio.crs) if scene.rio.crs is not None else blank
        return write_grid(blank, GeoBox((height, width), transform, whole.crs))

    def dates(self, scene: xr.DataArray) -> npt.NDArray[np.datetime64] | None:
        """(step,) the date of each, where it is that of one image and known."""
        return scene["time"].values if "time" in scene.coords and self.shape[0] == scene.sizes["time"] else None

    def tags(self, scene: xr.DataArray, command: str) -> dict[str, str]:
        """What stands in the files.

        Args:
            scene: what `conform` gives.
            command: what was typed.

        """
        source, accepted = str(scene.attrs.get("source", "")), tuple(map(str, scene.attrs.get("accepted", ())))
        origin = Provenance(self.name, self.sha256, (source,) if source else (), command, accepted, self.folder)
        more = {"LAYER": self.module.layer, "POOLED": self.module.pooled, "WINDOW": self.window}
        return {**origin.tags(), **{f"PRITHVI_{key}": str(value) for key, value in more.items()}}


def embedding_raster(name: str, shape: tuple[int, int], tags: Mapping[str, str]) -> Raster:
    """A file with a band for each feature of each step, in 16-bit floats.

    Args:
        name: of the file.
        shape: steps and features.
        tags: of the file.

    """
    names = tuple(f"step{step} feature{feature}" for step in range(shape[0]) for feature in range(shape[1]))
    return Raster(name, names, "float32", float("nan"), tags, half=True)
