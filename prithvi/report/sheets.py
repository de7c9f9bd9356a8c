"""The contents of a page for one result: two overlaid pictures, values under the pointer, a legend and facts."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from prithvi.products.ellipsoid import to_places
from prithvi.products.provenance import Provenance

if TYPE_CHECKING:
    from prithvi.report.series_sheets import Chart

_NODES = 33
"""Points per side at which longitude and latitude are computed; the page interpolates between them."""

Rgba = npt.NDArray[np.uint8]
"""(y, x, 4) red, green, blue and alpha."""


@dataclass(frozen=True)
class Probe:
    """A layer whose value under the pointer is shown."""

    label: str
    values: npt.NDArray[np.uint8]
    """(y, x) stored values."""
    nodata: int
    """Value of nodata pixels, for which nothing is shown; -1 for none."""
    names: dict[int, str] = field(default_factory=dict)
    """Text to show for values, by value; other values are shown as numbers."""
    factor: float = 1.0
    """Factor of values that are shown as numbers."""

    def plain(self) -> dict[str, Any]:
        """The layer as JSON values for the page's script; pixels are deflated and base64-encoded."""
        names = {str(value): name for value, name in self.names.items()}
        return {
            "label": self.label,
            "values": packed(self.values),
            "nodata": self.nodata,
            "names": names,
            "factor": self.factor,
        }


@dataclass(frozen=True)
class Entry:
    """An entry of the legend."""

    name: str
    color: str
    """RRGGBB."""
    amount: str
    """Area or percentage, as text."""


@dataclass(frozen=True)
class Sheet:
    """One result on the page."""

    title: str
    below: tuple[str, Rgba] | None
    """Label and picture of the input; None if it is not shown."""
    above: tuple[str, Rgba]
    """Label and picture of the result."""
    probes: Sequence[Probe]
    legend: Sequence[Entry]
    facts: Sequence[tuple[str, str]]
    ground: GeoBox
    """Where the pixels of the pictures lie."""
    step: float = 1.0
    """Pixels of the result per pixel of the picture, along one side."""
    notes: Sequence[str] = ()
    measured: Mapping[str, str] = field(default_factory=dict)
    """Metrics from the model folder, by name."""
    opacity: int = 100
    """Initial opacity of the result over the input, in percent."""
    chart: Chart | None = None
    """Of the series that the result is a date of."""
    number: int = 0
    """Of this date in the series, from 0."""

    def plain(self) -> dict[str, Any]:
        """As the page reads it."""
        (height, width), at = self.ground.shape, self.ground.affine
        crs = self.ground.crs.proj if self.ground.crs is not None else None
        called = ":".join(crs.to_authority() or (crs.name,)) if crs is not None else ""
        return {
            "width": width, "height": height, "transform": list(at)[:6],
            "crs": called, "degrees": crs is not None and crs.is_geographic,
            "places": _places(at, crs, height, width),
            "probes": [probe.plain() for probe in self.probes], "number": self.number,
        }  # fmt: skip


def packed(values: npt.NDArray[Any]) -> str:
    """The bytes of an array, deflated and base64-encoded, as the page unpacks them."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def opaque(picture: npt.NDArray[np.float32]) -> Rgba:
    """(y, x, 3) from 0 to 1, as `prithvi.plot.rgb` gives it, as a picture without holes."""
    return np.dstack([picture * 255, np.full(picture.shape[:2], 255)]).astype(np.uint8)


def origin(by: str, made: Provenance, tags: Mapping[str, str], *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Name and text of what a file says of its origin, `by` being the name of the model; empty texts are left out."""
    facts = [
        (by, made.model), ("weights (SHA-256)", made.weights_sha256), ("inputs", "\n".join(made.inputs)),
        ("command", made.command), ("software", tags.get("PRITHVI_SOFTWARE", "")), *more, ("left out", made.left_out),
    ]  # fmt: skip
    return [fact for fact in facts if fact[1]]


def thinned_note(step: int) -> list[str]:
    """What a page says of a picture that shows every nth pixel; nothing where it shows all."""
    return [f"One pixel of the page is {step} x {step} of the file."] if step > 1 else []


def source_of(picture: Rgba, lossless: bool = True) -> str:
    """A picture as a data URL: PNG, or JPEG if it is opaque and need not be lossless."""
    from PIL import Image

    out, kind = io.BytesIO(), "png" if lossless or (picture[..., 3] < 255).any() else "jpeg"
    if kind == "png":
        Image.fromarray(picture).save(out, kind, optimize=True)
    else:
        Image.fromarray(picture[..., :3]).save(out, kind, quality=88, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


def _places(transform: Affine, crs: CRS | None, height: int, width: int) -> dict[str, Any] | None:
    """Longitude and latitude on a lattice over the picture, unwrapped across the antimeridian; None without a CRS."""
    if crs is None:
        return None
    columns, rows = np.meshgrid(np.linspace(0, width, _NODES), np.linspace(0, height, _NODES))
    x, y = to_places(transform, columns, rows)
    longitude, latitude = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    longitude = np.unwrap(np.unwrap(longitude, axis=1, period=360), axis=0, period=360)
    places = {"longitude": longitude, "latitude": latitude}
    return {"nodes": _NODES, **{name: np.round(each, 7).ravel().tolist() for name, each in places.items()}}
