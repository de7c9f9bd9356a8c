"""Common band names, the band ids of each product, and the interpretation of free-text band names.

Sources: HLS v2.0 user guide (table of L30 and S30 bands), Sentinel-2 MSI and Landsat 4 to 9 band designations.
`nir_narrow` is the 0.85 to 0.88 um band that HLS, Landsat 8/9 and Sentinel-2's B8A share; `nir_broad` is Sentinel-2's
B08 and the NIR of Landsat 4, 5 and 7. They are different bands, and never substituted for each other unless the user
accepts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prithvi.errors import BandError, nearest

PRITHVI_BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
"""The six bands of the published models, in the order of their input."""

_BANDS: tuple[tuple[str, float, str, str, str], ...] = (
    # common name, micrometres, and the ids of Sentinel-2, Landsat 8 and 9, and Landsat 4 to 7
    ("coastal", 0.443, "B01", "B01", ""),
    ("blue", 0.482, "B02", "B02", "B01"),
    ("green", 0.561, "B03", "B03", "B02"),
    ("red", 0.655, "B04", "B04", "B03"),
    ("red_edge_1", 0.705, "B05", "", ""),
    ("red_edge_2", 0.740, "B06", "", ""),
    ("red_edge_3", 0.783, "B07", "", ""),
    ("nir_broad", 0.842, "B08", "", "B04"),
    ("nir_narrow", 0.865, "B8A", "B05", ""),
    ("water_vapour", 0.945, "B09", "", ""),
    ("cirrus", 1.375, "B10", "B09", ""),
    ("swir_1", 1.609, "B11", "B06", "B05"),
    ("swir_2", 2.201, "B12", "B07", "B07"),
    ("thermal_1", 10.9, "", "B10", "B06"),
    ("thermal_2", 12.0, "", "B11", ""),
    ("panchromatic", 0.590, "", "B08", "B08"),
)

WAVELENGTHS: Mapping[str, float] = MappingProxyType({name: centre for name, centre, *_ in _BANDS})
"""Centre wavelength of each band in micrometres, by common name."""

THERMAL = ("thermal_1", "thermal_2")
"""Bands that hold temperatures or radiances of the ground, and no reflectance."""

_SENTINEL_2 = {sentinel: name for name, _, sentinel, _, _ in _BANDS if sentinel}
_LANDSAT_8 = dict(sorted((landsat, name) for name, _, _, landsat, _ in _BANDS if landsat))
_LANDSAT_457 = dict(sorted((landsat, name) for name, _, _, _, landsat in _BANDS if landsat))

PRODUCTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "hls-l30": {name: band for name, band in _LANDSAT_8.items() if name != "B08"},
        "hls-s30": _SENTINEL_2,
        "sentinel-2": _SENTINEL_2,
        "landsat-8": _LANDSAT_8,
        "landsat-457": _LANDSAT_457,
    }
)
"""Common name of each band id (B01 ... B12, B8A), by product family."""

_ID = re.compile(r"^(?:sr[_ ]?)?(?:b|band)[_ ]?0*(\d{1,2})(a?)$", re.IGNORECASE)


def band_id(name: str) -> str | None:
    """Normalises a band id: `B5`, `band05` and `SR_B5` become `B05`; None for anything else.

    For names that are known to be ids, such as those of files and assets of a known product. In a free-text band
    description, "Band 5" is more often a position than an id; `read_name` distinguishes the two.
    """
    match = _ID.match(name.strip())
    return _identifier(*match.groups()) if match else None


def _identifier(number: str, letter: str) -> str:
    return f"B{int(number)}A" if letter else f"B{int(number):02d}"


_RED_EDGES = ("red_edge_1", "red_edge_2", "red_edge_3")
_NIR, _SWIR = ("nir_narrow", "nir_broad"), ("swir_1", "swir_2")
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("(?:coastal|ultra|deep) blue", ("coastal",)),
    ("coastal(?: aerosols?)?", ("coastal",)),
    *((f"(?:(?:vegetation )?red edge|re) {n}", (f"red_edge_{n}",)) for n in (1, 2, 3)),
    ("(?:vegetation )?red edge 4", ("nir_narrow",)),
    *((f"red edge 0{n}", (name,)) for n, name in zip((71, 75, 78), _RED_EDGES, strict=True)),
    ("(?:vegetation )?red edge", _RED_EDGES),
    ("(?:near infra red|nir) (?:narrow|08|8a)|narrow (?:near infra red|nir)", ("nir_narrow",)),
    ("(?:near infra red|nir) (?:broad|wide)|(?:broad|wide) (?:near infra red|nir)", ("nir_broad",)),
    ("nir 09|water vapou?r", ("water_vapour",)),
    ("near infra red|nir", _NIR),
    ("(?:short wave infra red|swir) (?:1[.]?6|1|i)", ("swir_1",)),
    ("(?:short wave infra red|swir) (?:2[.]?2|2|ii)", ("swir_2",)),
    ("short wave infra red|swir", _SWIR),
    ("cirrus", ("cirrus",)),
    *((f"(?:thermal(?: infra red)?|tirs) {n}|lwir 1{n}", (f"thermal_{n}",)) for n in (1, 2)),
    ("pan(?:chromatic)?", ("panchromatic",)),
    *((name, (name,)) for name in ("blue", "green", "red")),
)
"""Patterns of band names (a blank matches any separator or none) and the bands they may mean; the first match counts.

They cover TerraTorch's band enum, STAC's eo common names, and descriptions of USGS, ESA and Earth Engine (which calls
B8A the fourth red edge). "NIR" alone may be either of two bands, "red edge" any of three.
"""
_BETWEEN = r"[\s_./-]*"
_UNITS = r"nm|nanomet(?:er|re)s?|[uµμ]m|microns?|micromet(?:er|re)s?"
_NUMBER = r"\d+(?:\.\d+)?"
_SAYS_NOTHING = (
    "bands?|reflectances?|refl|surface|sr|toa|boa|top|bottom|of|atmosphere|central|cent(?:er|re)|wavelength|"
    "sentinel[ -]?2?[abc]?|landsat[ -]?[4-9]?|hls|msi|oli|e?tm|l1c|l2a|s2[abc]?|[ls]30|l[4-9]|msil[12][ac]|n\\d{4}|"
    "r\\d{2,3}m?|median|mean|gr[ae]y|undefined|"
    "t\\d{2}[c-x][a-z]{2}|\\d{1,3} ?(?:m|met(?:er|re)s?)|(?:19|20)\\d\\d"
)
"""Words that may accompany a band name without changing its meaning: product, level, tile, pixel size, year."""


# One pattern for all parts of a name, tried at each position in this order: a wavelength or a range with a unit; a bare
# number that may be a wavelength (but not a year); a band id; a position ("Band 5", or a leading number); the names
# above; words to ignore. A part must not touch other letters or digits.
_PART = re.compile(
    r"(?<![a-z0-9])(?:"
    rf"(?P<from>{_NUMBER})(?:\s*(?:-|to)\s*(?P<to>{_NUMBER}))?\s*(?P<unit>{_UNITS})"
    r"|(?P<bare>(?!(?:19|20)\d\d(?!\d))\d{3,4}(?:\.\d+)?|[0-2]\.\d+)"
    r"|(?:(?:sr|toa|boa)[\s_-]*)?b[\s_-]?0*(?P<id>\d{1,2})(?P<letter>a?)|sr[\s_-]*band[\s_-]*0*(?P<sr>\d{1,2})"
    r"|(?:band|layer|lyr|channel)[\s_.-]*0*(?P<place>\d{1,3})(?P<ofplace>a?)|^0*(?P<first>\d{1,2})(?P<offirst>a?)"
    + "".join(f"|(?P<n{i}>{words})" for i, (words, _) in enumerate(_NAMES)).replace(" ", _BETWEEN)
    + rf"|(?P<nothing>{_SAYS_NOTHING}))(?![a-z0-9]|\.\d|\s*(?:{_UNITS})(?![a-z]))"
)


@dataclass(frozen=True)
class Reading:
    """The parsed parts of a band name."""

    ids: tuple[str, ...] = ()
    """Band ids (B8A)."""
    number: str | None = None
    """A number that is a position or an id ("Band 8"), as the id it would be."""
    names: tuple[frozenset[str], ...] = ()
    """Bands that each name or wavelength in the text may mean."""
    understood: bool = True
    """False if the text has unknown words."""

    def candidates(self, product: str | None, numbered: bool = False) -> frozenset[str]:
        """The bands that are consistent with all parts.

        Args:
            product: a key of `PRODUCTS`; None allows the meaning of an id in any of them.
            numbered: whether numbers are ids and not positions.

        """
        ids = (*self.ids, self.number) if numbered and self.number else self.ids
        tables = [PRODUCTS[product]] if product else list(PRODUCTS.values())
        parts = [*self.names, *(frozenset(table[i] for table in tables if i in table) for i in ids)]
        if not self.understood or not parts:
            return frozenset()
        common = frozenset.intersection(*parts)
        # In a product with a single near-infrared band, "NIR" is unambiguous.
        own = common & set(PRODUCTS[product].values()) if product else common
        return own or common

    def contradicts(self, product: str | None) -> bool:
        """Whether id and name contradict each other ("B02 (red)"); two of a kind ("nir-red", "B8-B4") are an index."""
        tables = [PRODUCTS[product]] if product else list(PRODUCTS.values())
        known = len(self.ids) == 1 and any(self.ids[0] in table for table in tables)
        return self.understood and known and bool(self.names) and not self.candidates(product)


def read_name(text: str) -> Reading:
    """Parses a band's name or description into ids, common names and wavelengths, in any order and spelling."""
    # Every match is blanked out of `rest`; letters or digits that remain at the end are words that are not understood.
    plain = text.strip().lower()
    ids: list[str] = []
    names: list[frozenset[str]] = []
    number, rest, strange = None, plain, False
    for match in _PART.finditer(plain):
        rest = rest[: match.start()] + " " * (match.end() - match.start()) + rest[match.end() :]
        found = {key: value for key, value in match.groupdict().items() if value is not None}
        if "unit" in found:
            low, high = float(found["from"]), float(found.get("to", found["from"]))
            names.append(_at((low + high) / 2 * (1e-3 if found["unit"].startswith("n") else 1.0)))
        elif "id" in found or "sr" in found:
            ids.append(_identifier(found.get("id") or found["sr"], found.get("letter", "")))
        elif "place" in found or "first" in found:
            number = _identifier(found.get("place") or found["first"], found.get("ofplace") or found.get("offirst", ""))
        elif "bare" in found:
            near = _at(float(found["bare"]) * (1.0 if float(found["bare"]) < 100 else 1e-3))
            strange |= not near
            names.append(near)
        elif "nothing" not in found:
            names.append(frozenset(_NAMES[int(match.lastgroup[1:])][1]) if match.lastgroup else frozenset())
    return Reading(tuple(ids), number, tuple(names), not strange and not re.search(r"[^\W_]", rest))


def _at(wavelength: float) -> frozenset[str]:
    """The bands within 15 nm of a wavelength in micrometres (50 nm beyond 1.5 um); several if it lies between them."""
    width = 0.0151 if wavelength < 1.5 else 0.0501
    near = {name for name, centre in WAVELENGTHS.items() if abs(centre - wavelength) < width}
    return frozenset(near - {"panchromatic"})


def common_name(name: str, product: str | None = None) -> str | None:
    """The common name of a band, or None if `name` does not identify it.

    Args:
        name: a common name in any spelling (`blue`, `NIR_NARROW`, `SWIR 1`), a wavelength (`865 nm`) or a band id
            (`B8A`, `SR_B5`).
        product: a key of `PRODUCTS`, without which band ids have no meaning.

    """
    found = read_name(name)
    if found.ids and product is None and not found.names:
        return None
    candidates = found.candidates(product)
    return next(iter(candidates)) if len(candidates) == 1 else None


def family_of(ids: Iterable[str | None]) -> str | None:
    """The product family that a set of band ids identifies, else None.

    Only Sentinel-2 (and HLS S30, which has the same ids) has B8A and B12; all other ids are shared between families.
    """
    return "sentinel-2" if {band_id(name) for name in ids if name} & {"B8A", "B12"} else None


def what_it_means(name: str) -> str:
    """The end of an error message about an unidentified band name: its possible meanings, or the nearest names."""
    found = read_name(name)
    candidates = sorted(found.candidates(None))
    if found.ids or found.number:
        return f"Its name {name!r} is a place or another product's: say which bands are which (--bands)."
    if name.lower() == "class":
        return "A band 'class' is that of a map: give the scene that was mapped."
    if len(candidates) > 1:
        return f"Its name {name!r} may be {' or '.join(candidates)}: say which (--bands)."
    return f"Its name {name!r} means no band: {nearest(name, WAVELENGTHS)}"


def reflective(names: Iterable[str]) -> list[str]:
    """Of bands by common name those without the thermal infrared; all where there is nothing else."""
    every = list(map(str, names))
    return [name for name in every if name not in THERMAL] or every


def left_out_of_bands(names: Iterable[str]) -> list[str]:
    """What `reflective` leaves out, as a sentence for the notes of a result; empty where it leaves nothing out."""
    every = list(map(str, names))
    left = ", ".join(name for name in every if name not in reflective(every))
    return [f"{left} left out: the thermal infrared holds temperatures, no reflectance."] if left else []


def check_names(names: Sequence[str], product: str | None = None) -> tuple[str, ...]:
    """Converts band names to common names.

    Args:
        names: common names or, for a known product, band ids.
        product: a key of `PRODUCTS`; if None, it is inferred from ids that only one family has (B8A).

    Raises:
        BandError: a name is unknown (the message suggests the nearest), or occurs twice.

    """
    found = []
    product = product or family_of(names)
    for name in names:
        common = common_name(name, product)
        if common is None:
            if band_id(name) is not None and product is None:
                raise BandError(f"band {name!r} depends on the product: name the sensor, or use common names.")
            raise BandError(f"there is no band {name!r}: {nearest(name, WAVELENGTHS)}")
        found.append(common)
    doubled = sorted({name for name in found if found.count(name) > 1})
    if doubled:
        raise BandError(f"band {doubled[0]} is named twice in {', '.join(names)}.")
    return tuple(found)
