"""Sentinel-2 products as the archive ships them (SAFE), and their parts, as STAC items: nothing but metadata is read.

A product becomes the item that a catalog would give of it, so that bands of 10, 20 and 60 m, dates and offsets are
treated alike wherever a scene comes from. What its values mean stands in the product's own metadata file
(`MTD_MSIL2A.xml`; `S2A_OPER_MTD_SAFL1C_....xml` until 2016), which is searched upwards from a part. Names and elements
follow the Sentinel-2 Products Specification Document, versions 12 to 15.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from prithvi.catalog import SENSORS
from prithvi.errors import SceneError
from prithvi.scenes.names import day_of
from prithvi.scenes.paths import is_remote
from prithvi.scenes.stac_items import PRODUCT

if TYPE_CHECKING:
    import pystac

_COMPACT = re.compile(
    r"^(?P<granule>(?:L2A_)?T\d{2}[A-Z]{3}_(?P<date>\d{8})T\d{6})_(?P<layer>[A-Z0-9]{3,6})(?:_(?P<metres>\d\d)m)?\.jp2$"
)
"""An image since December 2016; only level 2A says its pixel size."""
_OLD = re.compile(
    r"^(?P<granule>S2[A-D]_(?:OPER|USER)_(?P<layer>[A-Z]{3})_L(?P<level>1C|2A)_TL_\w+?_T\d{2}[A-Z]{3})"
    r"(?:_(?P<band>B\d[\dA]))?(?:_(?P<metres>\d\d)m)?\.jp2$"
)
"""An image until then. The time in its name is that of its processing."""
_METADATA_BYTES = 64_000_000
"""Of a metadata file in an archive, at most; that of a product has about 60,000."""
_PRODUCT_XML = re.compile(r"^(MTD_MSIL\w{2,3}|S2[A-D]_(OPER|USER)_MTD_SAFL\w+)\.xml$")
_OTHER_XML = re.compile(r"^(MTD_TL|S2[A-D]_(OPER|USER)_MTD_L\w+_TL_\w+)\.xml$|^manifest\.safe$")
_PRODUCT_NAME = re.compile(r"^S2[A-D]_MSIL(?P<level>1C|2A)_\d{8}T\d{6}_N(?P<baseline>\d{4})_")
_SUBDATASET = re.compile(r"^SENTINEL2_L(?:1C|2A):(?P<xml>.+\.xml):(?P<metres>10|20|60)m:EPSG_\d+$")
"""What GDAL's driver SENTINEL2 calls the bands of one native pixel size."""
_IN_ZIP = re.compile(r"^/vsizip/\{(?P<file>.+)\}/(?P<inside>.+)$")
"""GDAL's name of a file in a zip file."""
_IMAGES = ("", "R??m/", "IMG_DATA/", "IMG_DATA/R??m/", "*/IMG_DATA/", "*/IMG_DATA/R??m/", "GRANULE/*/IMG_DATA/",
           "GRANULE/*/IMG_DATA/R??m/", "*/GRANULE/*/IMG_DATA/", "*/GRANULE/*/IMG_DATA/R??m/")  # fmt: skip
"""Where images lie in a product's parts, in a product, and in a folder of products."""
_ORDER = SENSORS["sentinel-2-l1c"].stack
"""Bands by the number that the metadata gives them."""
_FINE, _COARSE = ("B02", "B03", "B04", "B08"), ("B01", "B09", "B10")
_NATIVE = {band: 10 if band in _FINE else 60 if band in _COARSE else 20 for band in _ORDER}
"""Pixel size of each band in metres, as it was measured."""


@dataclass(frozen=True)
class _Image:
    """One image file, by its name."""

    path: str
    granule: str
    """What the names of all images of its granule and level begin with."""
    layer: str
    """A band's id, or what else it shows: SCL, AOT, TCI."""
    metres: int | None
    level: str | None
    date: dt.date | None

    @property
    def folder(self) -> PurePath:
        """Of its granule (what holds IMG_DATA), or of the image where it was taken out of one."""
        above = PurePath(self.path).parent
        for name in (r"R\d0m", "IMG_DATA"):
            above = above.parent if re.fullmatch(name, above.name) else above
        return above


def _image(path: str) -> _Image | None:
    match = _OLD.match(PurePath(path).name) or _COMPACT.match(PurePath(path).name)
    if match is None:
        return None
    said = match.groupdict()
    metres = int(said["metres"]) if said["metres"] else None
    level = said.get("level", "2A" if metres else "1C")
    date = day_of(said["date"], "%Y%m%d", path) if "date" in said else None
    # Bands of the old form are of the layer MSI; TCI, SCL and others stand in its place.
    granule = said["granule"].replace(f"_{said['layer']}_", "_MSI_", 1)
    return _Image(path, granule, said.get("band") or said["layer"], metres, level, date)


def sentinel_granule_of(path: str) -> str | None:
    """Folder and common name of the images of a Sentinel-2 granule that a file is one of; else None. By names only."""
    image = _image(path)
    return str(image.folder / image.granule) if image is not None else None


def product_name(path: str) -> str | None:
    """Name of the product that a path leads to or into, without its suffix; None where none is named."""
    for part in reversed(PurePath(path).parts):
        if part.upper().endswith((".SAFE", ".SAFE.ZIP")) or (_PRODUCT_NAME.match(part) and part.endswith(".zip")):
            return re.sub(r"(\.SAFE)?(\.zip)?$", "", part, flags=re.I)
    return None


def items_of(names: Sequence[str]) -> list[pystac.Item] | None:
    """Sentinel-2 products as items, one a granule and date; None for anything else.

    Args:
        names: a product's folder, zip file or metadata file; a part of one (GRANULE, a granule, IMG_DATA, R10m, R20m,
            R60m) or a copy of a part; image files; what GDAL calls a product's bands of one size
            (`SENTINEL2_L2A:...:20m:EPSG_32630`); or a list of these, whose images of one granule belong together.

    Raises:
        SceneError: metadata that cannot be read, several granules in one product, or other files beside products.

    """
    found = [_images_of(name) for name in names]
    foreign = [name for name, images in zip(names, found, strict=True) if images is None]
    if not any(found):
        return None
    if foreign:
        raise SceneError(f"{foreign[0]} and files of Sentinel-2 products were given together: give one or the other.")
    # Images are sorted by granule, whichever folder or file of the product led to them, so that a product, a part of it
    # and a list of its files give one item.
    products: dict[tuple[str, str], list[_Image]] = {}
    for name, images in zip(names, found, strict=True):
        for image in images or ():
            products.setdefault((str(image.folder), image.granule), []).append(image)
        _refuse_several(name, images or ())
    for (folder, granule), images in products.items():
        if len({image.level for image in images}) > 1:
            raise SceneError(
                f"{folder} holds images of level 1C and of level 2A of {granule}, whose values mean different things: "
                f"give those of one level (of level 2A: {granule}_*m.jp2)."
            )
    only = names[0] if len(names) == 1 and len(products) == 1 else None
    return [_item(images, only) for images in products.values()]


def scl_of(source: str | Path) -> str:
    """Path of the scene classification (SCL, the cloud mask of level 2A) of a product or of a part of one.

    Args:
        source: as for `prithvi.open_scene`, of one granule.

    Raises:
        SceneError: there is none, as in level 1C.

    """
    images = _images_of(str(source)) or []
    _refuse_several(str(source), images)
    granules = {image.granule for image in images}
    beside = (_images_of(str(images[0].folder)) if images else None) or []
    found = [image for image in images + beside if image.layer == "SCL" and image.granule in granules]
    if not found:
        raise SceneError(
            f"{source} has no scene classification (SCL): only products of level 2A have one, in R20m and R60m."
        )
    return min(found, key=lambda image: image.metres or 20).path


def _images_of(name: str) -> list[_Image] | None:
    """The images that a source holds; None where it is nothing of Sentinel-2's archive."""
    if is_remote(name):
        return None
    if match := _SUBDATASET.match(name):
        images = _images_of(match["xml"]) or []
        return [image for image in images if _NATIVE.get(image.layer) == int(match["metres"])]
    path = Path(name)
    if path.suffix.lower() == ".zip" and path.is_file():
        return _in_zip(path)
    if _PRODUCT_XML.match(path.name) or _OTHER_XML.match(path.name):
        path = path.parent
    if path.is_dir():
        if any(file.suffix.lower() in (".tif", ".tiff", ".vrt", ".hdf") for file in path.iterdir()):
            return None  # a folder of the user's own, whatever else lies in it
        # A product, a granule, IMG_DATA and R10m are all folders above images; the same patterns find these from each.
        files = sorted(str(file) for place in _IMAGES for file in path.glob(f"{place}*.jp2"))
        return [image for image in map(_image, files) if image is not None] or None
    image = _image(name)
    return [image] if image is not None and path.is_file() else None


def _in_zip(path: Path) -> list[_Image] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            files = sorted(name for name in archive.namelist() if "/IMG_DATA/" in name)
    except (zipfile.BadZipFile, OSError) as error:
        raise SceneError(f"{path} is no whole zip file ({error}): download it again.") from error
    return [image for image in (_image(f"/vsizip/{{{path}}}/{name}") for name in files) if image is not None] or None


def _refuse_several(name: str, images: Sequence[_Image]) -> None:
    """Several granules of one product have one date and several tiles; a folder of products is a series."""
    granules: dict[PurePath, set[str]] = {}
    for image in images:
        granules.setdefault(image.folder.parent, set()).add(str(image.folder))
    for above, folders in granules.items():
        if len(folders) > 1 and above.name == "GRANULE":
            raise SceneError(
                f"{name} holds {len(folders)} granules, each of another tile: give one of {', '.join(sorted(folders))}."
            )


def _item(images: Sequence[_Image], name: str | None) -> pystac.Item:
    """The item that a catalog would give of these images."""
    import pystac

    first = images[0]
    said = _metadata(first)
    level = said.level or first.level
    if level not in ("1C", "2A"):
        raise SceneError(f"{said.where} is of level {level}, which lies on no map: get its level 2A.")
    day, baseline = said.date or first.date, said.baseline
    if baseline is None and _OLD.match(PurePath(first.path).name):
        baseline = 2.0  # this form ended with 02.04
    properties: dict[str, Any] = {PRODUCT: f"sentinel-2-l{level.lower()}"}
    # What is stated for each band counts more than what a baseline has; 99.99 is what a user processed with Sen2Cor.
    if said.offsets is None and baseline is not None and baseline < 90:
        properties["s2:processing_baseline"] = f"{baseline:05.2f}"
    when = dt.datetime.combine(day, dt.time(), dt.UTC) if day is not None else None
    if when is None:
        properties |= {"start_datetime": None, "end_datetime": None}
    item = pystac.Item(name or str(first.folder / first.granule), None, None, when, properties)
    for band, native in _NATIVE.items():
        sizes = [image for image in images if image.layer == band]
        if not sizes:
            continue
        # Of a band in several pixel sizes the one that was measured, or else the finest.
        best = min(sizes, key=lambda image: (image.metres not in (None, native), image.metres))
        values: dict[str, float] = {}
        if said.quantification is not None:
            values["scale"] = 1 / said.quantification
            if said.offsets is not None and band not in said.offsets:
                raise SceneError(f"{said.where} states what is to be added to some bands, and not to {band}.")
            if said.offsets is not None:
                values["offset"] = said.offsets[band] / said.quantification
        fields = {"raster:bands": [values]}
        item.add_asset(band, pystac.Asset(best.path, media_type=pystac.MediaType.JPEG2000, extra_fields=fields))
    return item


@dataclass(frozen=True)
class _Said:
    """What a product's metadata say, or as much of it as names do."""

    where: str = ""
    level: str | None = None
    date: dt.date | None = None
    baseline: float | None = None
    quantification: float | None = None
    offsets: Mapping[str, float] | None = None
    """To be added to each band's values; None where the metadata have no such list."""


def _metadata(image: _Image) -> _Said:
    """What is said of an image by the metadata file above it that names its granule, else by the product's name."""
    # Folders of several products may lie inside each other: a metadata file counts if it names this granule.
    for name, text in _files_above(image.path):
        if image.granule.encode() in text:
            return _parsed(name, text)
    for part in reversed(PurePath(image.path).parts):
        if match := _PRODUCT_NAME.match(part):
            return _Said(part, match["level"], baseline=int(match["baseline"]) / 100)
    return _Said()


def _files_above(path: str) -> list[tuple[str, bytes]]:
    """Names and contents of the product metadata files in the folders above an image."""
    if match := _IN_ZIP.match(path):
        with zipfile.ZipFile(match["file"]) as archive:
            inside = PurePath(match["inside"]).parents
            found = [
                entry
                for entry in archive.infolist()
                if _PRODUCT_XML.match(PurePath(entry.filename).name) and PurePath(entry.filename).parent in inside
            ]
            if large := next((entry for entry in found if entry.file_size > _METADATA_BYTES), None):
                raise SceneError(
                    f"{match['file']} holds {large.filename} of {large.file_size:,} bytes, as no product does: it "
                    "was not unpacked."
                )
            return [(f"{match['file']}/{entry.filename}", archive.read(entry)) for entry in found]
    files = (file for folder in list(Path(path).absolute().parents)[:5] for file in sorted(folder.glob("*.xml")))
    return [(str(file), file.read_bytes()) for file in files if _PRODUCT_XML.match(file.name)]


def _parsed(name: str, text: bytes) -> _Said:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SceneError(f"{name} is damaged ({error}): download the product again.") from error
    # Elements of Sen2Cor's products until 2018 begin with L2A_.
    elements = [(element.tag.rpartition("}")[2].removeprefix("L2A_"), element) for element in root.iter()]
    # The first element of each name counts: general information comes first in the schema.
    texts: dict[str, str] = {}
    for tag, element in elements:
        texts.setdefault(tag, (element.text or "").strip())
    level = re.search(r"Level-(\w{2,3})_User_Product", root.tag)
    known = level[1] if level else None
    offset = "BOA_ADD_OFFSET" if known == "2A" else "RADIO_ADD_OFFSET"
    value = "BOA_QUANTIFICATION_VALUE" if known == "2A" else "QUANTIFICATION_VALUE"
    sensed = texts.get("DATATAKE_SENSING_START") or texts.get("PRODUCT_START_TIME")
    try:
        offsets = {_ORDER[int(e.attrib["band_id"])]: float(e.text or "") for tag, e in elements if tag == offset}
        return _Said(
            name, known, dt.date.fromisoformat(sensed[:10]) if sensed else None,
            float(texts["PROCESSING_BASELINE"]) if "PROCESSING_BASELINE" in texts else None,
            float(texts[value]) if value in texts else None, offsets or None,
        )  # fmt: skip
    except (ValueError, KeyError, IndexError) as error:
        raise SceneError(
            f"{name} states something that cannot be read ({error}): download the product again."
        ) from error
