"""A grid by GeoZarr: the attributes of the Zarr conventions proj, spatial and multiscales, as of their releases v0.1.

These stand beside the CF conventions (`spatial_ref`) and do not replace them. `prithvi.scenes.dataarrays` reads them.

    https://github.com/zarr-conventions/proj/blob/v0.1/README.md
    https://github.com/zarr-conventions/spatial/blob/v0.1/README.md
    https://github.com/zarr-conventions/multiscales/blob/v0.1/README.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from prithvi.scenes.grids import is_turned

_CONVENTIONS = {
    "proj": ("f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data"),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    "multiscales": ("d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
}
"""Name of a convention, which is that of its repository, to its UUID and description."""


def declared(*names: str) -> list[dict[str, str]]:
    """What the attribute `zarr_conventions` says of the conventions of these names."""
    root = "github.com/zarr-conventions"
    return [
        {
            "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
            "spec_url": f"https://{root}/{name}/blob/v0.1/README.md",
            "uuid": _CONVENTIONS[name][0],
            "name": name,
            "description": _CONVENTIONS[name][1],
        }
        for name in names
    ]


def crs_attributes(crs: Any) -> dict[str, str]:
    """`proj:code` of a coordinate reference system that has one, else `proj:wkt2`.

    Args:
        crs: a code, well-known text, or anything with `to_wkt`.

    """
    found = CRS.from_user_input(crs)
    code = found.to_authority(min_confidence=100)
    return {"proj:code": ":".join(code)} if code else {"proj:wkt2": found.to_wkt(version="WKT2_2019")}


def grid_attributes(grid: GeoBox) -> dict[str, Any]:
    """What a group says of the grid of its arrays (..., y, x): `zarr_conventions`, `spatial:*` and `proj:*`."""
    height, width = grid.shape
    attrs: dict[str, Any] = {
        "zarr_conventions": declared(*(["proj"] if grid.crs is not None else []), "spatial"),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform_type": "affine",
        "spatial:transform": _numbers(grid.affine),
        "spatial:shape": [int(height), int(width)],
        "spatial:registration": "pixel",
    }
    if not is_turned(grid):
        at = grid.affine
        xs, ys = sorted((at.c, at.c + at.a * width)), sorted((at.f, at.f + at.e * height))
        attrs["spatial:bbox"] = [float(number) for number in (xs[0], ys[0], xs[1], ys[1])]
    return attrs | (crs_attributes(grid.crs) if grid.crs is not None else {})


def pyramid_attributes(array: str, dimensions: int, levels: Mapping[str, GeoBox], method: str) -> dict[str, Any]:
    """What a group says of the levels of its arrays: `multiscales`, in the layout that GDAL 3.13 reads and writes.

    Args:
        array: the array of full resolution in the group itself, which stands for all; GDAL gives the levels to this.
        dimensions: its number of dimensions, the last two of which are y and x.
        levels: name of a subgroup to its grid, the largest first; the first is of the group itself, under any name.
        method: how a level was made of the one before.

    """
    layout: list[dict[str, Any]] = []
    outer, before = [1.0] * (dimensions - 2), None
    for name, grid in levels.items():
        entry: dict[str, Any] = {"asset": array if before is None else name}
        step = 1.0 if before is None else 2.0
        if before is not None:
            entry["derived_from"] = before
        entry["transform"] = {"scale": [*outer, step, step], "translation": [0.0] * dimensions}
        entry |= {"spatial:shape": [int(size) for size in grid.shape], "spatial:transform": _numbers(grid.affine)}
        layout.append(entry)
        before = str(entry["asset"])
    return {"multiscales": {"layout": layout, "resampling_method": method}}


def _numbers(affine: Affine) -> list[float]:
    return [float(number) for number in affine[:6]]
