"""The band table: common names, and what each product calls them.

Sources: HLS v2.0 user guide (table of L30 and S30 bands), Sentinel-2 MSI and Landsat 4 to 9 band designations.
`nir_narrow` is the 0.85 to 0.88 um band that HLS, Landsat 8/9 and Sentinel-2's B8A share; `nir_broad` is Sentinel-2's
B08 and the NIR of Landsat 4, 5 and 7. They are two bands, and one is never taken for the other without being told to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from prithvi.errors import BandError, nearest

PRITHVI_BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
"""The six bands of the published models, in their order."""

WAVELENGTHS: Mapping[str, float] = MappingProxyType(
    {
        "coastal": 0.443,
        "blue": 0.482,
        "green": 0.561,
        "red": 0.655,
        "red_edge_1": 0.705,
        "red_edge_2": 0.740,
        "red_edge_3": 0.783,
        "nir_broad": 0.842,
        "nir_narrow": 0.865,
        "water_vapour": 0.945,
        "cirrus": 1.375,
        "swir_1": 1.609,
        "swir_2": 2.201,
        "thermal_1": 10.9,
        "thermal_2": 12.0,
        "panchromatic": 0.590,
    }
)
"""Common name to centre wavelength in micrometres."""

_ALIASES = {
    "coastal_aerosol": "coastal",
    "nir08": "nir_narrow",
    "nir_08": "nir_narrow",
    "swir16": "swir_1",
    "swir22": "swir_2",
    "swir1": "swir_1",
    "swir2": "swir_2",
    "rededge1": "red_edge_1",
    "rededge2": "red_edge_2",
    "rededge3": "red_edge_3",
    "water_vapor": "water_vapour",
    "thermal_infrared_1": "thermal_1",
    "thermal_infrared_2": "thermal_2",
}
"""Other spellings in use: STAC's eo common names and TerraTorch's band enum. STAC's plain `nir` stays ambiguous."""

_SENTINEL_2 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "red_edge_1",
    "B06": "red_edge_2",
    "B07": "red_edge_3",
    "B08": "nir_broad",
    "B8A": "nir_narrow",
    "B09": "water_vapour",
    "B10": "cirrus",
    "B11": "swir_1",
    "B12": "swir_2",
}
_LANDSAT_8 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "nir_narrow",
    "B06": "swir_1",
    "B07": "swir_2",
    "B08": "panchromatic",
    "B09": "cirrus",
    "B10": "thermal_1",
    "B11": "thermal_2",
}
_LANDSAT_457 = {
    "B01": "blue",
    "B02": "green",
    "B03": "red",
    "B04": "nir_broad",
    "B05": "swir_1",
    "B06": "thermal_1",
    "B07": "swir_2",
    "B08": "panchromatic",
}

PRODUCTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "hls-l30": {name: band for name, band in _LANDSAT_8.items() if name != "B08"},
        "hls-s30": _SENTINEL_2,
        "sentinel-2": _SENTINEL_2,
        "landsat-8": _LANDSAT_8,
        "landsat-457": _LANDSAT_457,
    }
)
"""Product family to its band ids (written B01 ... B12, B8A) and their common names."""

_ID = re.compile(r"^(?:sr[_ ]?)?(?:b|band)[_ ]?0*(\d{1,2})(a?)$", re.IGNORECASE)


def band_id(name: str) -> str | None:
    """`B5`, `band05` or `SR_B5` as `B05`; None for anything that is not a band number."""
    match = _ID.match(name.strip())
    if match is None:
        return None
    number, letter = match.groups()
    return f"B{number}A" if letter else f"B{int(number):02d}"


def common_name(name: str, product: str | None = None) -> str | None:
    """The common name of one band, or None when `name` does not say which band it is.

    Args:
        name: a common name in any case (`blue`, `NIR_NARROW`, `swir16`) or a band id (`B8A`, `SR_B5`).
        product: a key of `PRODUCTS`; band ids mean nothing without it.

    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    plain = _ALIASES.get(plain, plain)
    if plain in WAVELENGTHS:
        return plain
    identifier = band_id(name)
    if identifier is None or product is None:
        return None
    return PRODUCTS[product].get(identifier)


def family_of(names: Iterable[str]) -> str | None:
    """The product family that a set of band ids leaves open no choice about, else None.

    Only Sentinel-2 (and HLS S30, which names its bands alike) has B8A or B12. Every other id is shared.
    """
    ids = {band_id(name) for name in names}
    return "sentinel-2" if ids & {"B8A", "B12"} else None


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """`names` as common names.

    Raises:
        BandError: a name is not in the table (with the nearest ones), or stands there twice.

    """
    found = []
    for name in names:
        common = common_name(name)
        if common is None:
            if band_id(name) is not None:
                raise BandError(f"band {name!r} depends on the product: name the sensor, or use common names.")
            raise BandError(f"there is no band {name!r}: {nearest(name, WAVELENGTHS)}")
        found.append(common)
    doubled = sorted({name for name in found if found.count(name) > 1})
    if doubled:
        raise BandError(f"band {doubled[0]} is named twice in {', '.join(names)}.")
    return tuple(found)
