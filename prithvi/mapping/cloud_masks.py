"""`prithvi.mapping.mask_scene`: where a scene is clear, under clouds or in their shadow, as a file.

By the mask of the scene's own product where there is one, else by a network; both are runs of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import RasterioError

from prithvi import windows
from prithvi.errors import BandError, OutputError, SceneError
from prithvi.files import refuse_overwrite
from prithvi.mapping.class_maps import MapResult, map_scene
from prithvi.mapping.cog import RasterWriter, check_geotiff, count_values
from prithvi.mapping.engine import Arrays, Part, Progress, Target, blank, placed, write
from prithvi.mapping.maskproducts import product_called, read_mask
from prithvi.mapping.masks import file_of, level_of
from prithvi.mapping.result_files import NODATA, class_flags, map_rasters
from prithvi.modelio.cloud_networks import ACCEPTED, CLASSES, cloud_network, coarser, step_for
from prithvi.modelio.predictor import ClassEntry, Predictor
from prithvi.products.products import Products, left_beside, write_products
from prithvi.products.provenance import Provenance, identity
from prithvi.scenes.conform import ground_resolution
from prithvi.scenes.file_states import states_of_rasters
from prithvi.scenes.info import name_of

PRODUCTS = Products(item=True, style=True)
"""What lies beside a mask."""
_ROWS = 512


def mask_scene(
    scene: xr.DataArray,
    path: str | Path,
    *,
    mask: str | Path | None = None,
    mask_is: str | None = None,
    batch_size: int = 2,
    resume: bool = False,
    command: str = "prithvi.mapping.mask_scene",
    progress: Progress | None = None,
) -> MapResult:
    """Writes where a scene is clear (0), under clouds (1), in the shadow of clouds (2) or without data (255), as a
    Cloud-Optimized GeoTIFF with a STAC item and a QGIS style. Its tag PRITHVI_MODEL says by what.

    Args:
        scene: of one date, what `prithvi.open_scene` gives.
        path: the file to write; it appears when it is whole, and an older one stays until then.
        mask: the mask of the scene's own product, which is then written in these classes; None asks the network for
            the scene's level, see `prithvi.modelio.cloud_networks`.
        mask_is: what the mask holds, a key of `prithvi.mapping.maskproducts.MASK_PRODUCTS`; default what its name says.
        batch_size: windows that the network sees at once.
        resume: keep the rows that an interrupted run with the same inputs has finished.
        command: written to the files as the command that made them.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError: several dates; the level is not known; the mask does not fit, see `prithvi.mapping.clear_of`.
        BandError, ScaleError: the scene has not the six bands of the network, see `prithvi.scenes.conform`.
        MissingExtraError: the networks are not installed.
        OutputError: a file cannot be written, or a mask of this name is there that was not made here. The finished rows
            are kept.

    """
    path = check_geotiff(path)
    _refuse_others(path)
    if scene.sizes["time"] != 1:
        raise SceneError(
            f"{name_of(scene)} has {scene.sizes['time']} dates, and a mask is of one: take them one by one "
            "(scene.isel(time=[0]))."
        )
    if mask is not None:
        return _from_product(scene, path, file_of(mask), mask_is, resume, command, progress)
    network = network_for(scene)
    try:
        return map_scene(
            network, scene, path, products=PRODUCTS, batch_size=batch_size, device="cpu",
            accept=ACCEPTED, resume=resume, command=command, progress=progress,
        )  # fmt: skip
    except BandError as error:
        raise BandError(f"a network, as no mask of {name_of(scene)} is taken, needs six bands: {error}") from error


def network_for(scene: xr.DataArray) -> Predictor:
    """The network for a scene's level and the size of its pixels.

    Raises:
        SceneError: the level is not known.
        MissingExtraError, ModelError: see `cloud_network`.

    """
    level = level_of(scene)
    step = step_for(ground_resolution(scene)) if scene.rio.crs is not None else 1
    return coarser(cloud_network(level), step)


def _refuse_others(path: Path) -> None:
    """Masks that people make themselves are often called like this, and lie where results go."""
    if path.is_file():
        with suppress(RasterioError), rasterio.open(path) as raster:
            if "PRITHVI_MODEL" in raster.tags():
                return
        raise OutputError(
            f"{path} is there already and was not made by prithvi: write into another folder (-o). As a mask of your "
            "own map, fill and composite read it by --clouds."
        )


def _from_product(
    scene: xr.DataArray,
    path: Path,
    mask: Path,
    product: str | None,
    resume: bool,
    command: str,
    progress: Progress | None,
) -> MapResult:
    read = read_mask(mask, scene, product_called(product) if product is not None else None)
    assert read.classes is not None
    origin = Provenance(read.title).of_scene(scene, command, (str(mask),))
    run = MaskRun(read.classes, origin)
    # Windows only count the progress here: each row is on its own.
    target = Target.whole(scene, windows.plan(scene.sizes["y"], scene.sizes["x"], _ROWS, _ROWS))
    inputs = identity(scene)
    key = {
        "mask": states_of_rasters([str(mask)]),
        "product": read.title,
        "input": inputs,
        "software": origin.software,
    }
    sidecars = PRODUCTS.files(path, run, "time" in scene.coords)
    refuse_overwrite((path, *sidecars), [mask, *inputs["states"]])
    notes: tuple[str, ...] = (read.told,)
    with RasterWriter(path.parent, scene, map_rasters(run.outputs(target), path), key, resume) as writer:
        if not (writer.made and all(file.is_file() for file in sidecars)):
            write(run, target, writer, progress)
            notes += write_products(writer.make(), path.parent, PRODUCTS, run, scene, origin)
            writer.publish()
    counts = count_values(path)
    pixels = {entry.name: int(counts[entry.value]) for entry in CLASSES}
    return MapResult(path, pixels, int(counts[NODATA]), (path, *sidecars), notes + left_beside(path, sidecars))


@dataclass(frozen=True)
class MaskRun:
    """The mask of a scene's own product in the classes of a network; a `prithvi.mapping.engine.Run`."""

    values: da.Array
    """(y, x) uint8 on the scene's grid."""
    origin: Provenance

    @property
    def contract(self) -> None:
        """No units: pixels are not looked at."""

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """Those of the networks."""
        return CLASSES

    @property
    def quantity(self) -> None:
        """None: it has classes."""

    def outputs(self, target: Target) -> xr.Dataset:
        """`class` (y, x) uint8, blank."""
        result = placed({"class": ((), blank(target.grid.shape[-2:], "uint8"))}, target.grid)
        result["class"].attrs.update(class_flags(self.classes))
        return result.assign_attrs(self.origin.tags())

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """See `prithvi.mapping.engine.Run`."""
        for first in range(part.rows.start, part.rows.stop, _ROWS):
            rows = self.values[first : min(first + _ROWS, part.rows.stop), part.columns]
            yield first - part.rows.start, {"class": np.asarray(rows)}
            if part.count is not None:
                part.count(len(part.plan.columns))
