"""Sentinel-2 products as the archive ships them: folders, names and metadata of each era, pixels of the sample.

The forms follow the Sentinel-2 Products Specification Document (versions 12 to 15): `PRD` products of 2015 and 2016
with several granules, products of Sen2Cor before 2018 with `L2A_` before their elements, and the compact form since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from tests.conftest import SPAIN

IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""In the order of the sample, and of `band_id` in the metadata."""
_SIZES = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09", "B10")}
FINE = {band: metres for metres, bands in _SIZES.items() for band in bands}
"""The native pixel size of each band in metres."""
ORIGIN = Affine(10, 0, 600_000, 0, -10, 4_200_000)
SIZE = 192


@cache
def _sample() -> np.ndarray:
    with rasterio.open(SPAIN) as raster:
        values = raster.read(window=Window(0, 0, SIZE, SIZE)).astype(np.uint16)
    values[:, :60, :120] = 0
    return values


def truth(band: str, metres: int | None = None) -> np.ndarray:
    """(y, x) uint16: a piece of the sample as a band of that pixel size has it; a corner without data."""
    step = (metres or FINE[band]) // 10
    return _sample()[IDS.index(band), ::step, ::step]


def on_finest(band: str, metres: int | None = None, finest: int = 10) -> np.ndarray:
    """(y, x) float32: the truth repeated onto the finest grid, NaN where there is no data."""
    times = (metres or FINE[band]) // finest
    values = truth(band, metres).astype(np.float32).repeat(times, 0).repeat(times, 1)
    return np.where(values > 0, values, np.nan)


def write_band(path: Path, values: np.ndarray, metres: int, origin: Affine = ORIGIN, crs: str = "EPSG:32630") -> None:
    """A lossless JPEG 2000 file; like the archive's it declares no nodata value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype,
        crs=crs, transform=origin @ Affine.scale(metres / 10), QUALITY=100, REVERSIBLE="YES",
    ) as raster:  # fmt: skip
        raster.write(values, 1)


@dataclass(frozen=True)
class Era:
    """How products of a time are named and written."""

    level: str
    form: str
    """`old` (2015, 2016), `prototype` (Sen2Cor to 2018) or `compact`."""
    product: str
    metadata: str
    granule: str
    """With the tile as {tile}."""
    image: str
    """Of a band, with {tile} and {band}; the pixel size of level 2A follows it."""
    sensed: str
    baseline: str


_OLD = "PDMC_20160607T050846_R051_V20150706T105015_20150706T105015"
ERAS = {
    "2015 L1C": Era(
        "1C", "old", f"S2A_OPER_PRD_MSIL1C_{_OLD}.SAFE", f"S2A_OPER_MTD_SAFL1C_{_OLD}.xml",
        "S2A_OPER_MSI_L1C_TL_EPA__20160605T113933_A000734_{tile}_N02.02",
        "S2A_OPER_MSI_L1C_TL_EPA__20160605T113933_A000734_{tile}_{band}", "2015-07-06T10:50:15.461Z", "02.02",
    ),
    "2015 L2A": Era(
        "2A", "old", f"S2A_USER_PRD_MSIL2A_{_OLD}.SAFE", f"S2A_USER_MTD_SAFL2A_{_OLD}.xml",
        "S2A_USER_MSI_L2A_TL_EPA__20160605T113933_A000734_{tile}_N02.02",
        "S2A_USER_MSI_L2A_TL_EPA__20160605T113933_A000734_{tile}_{band}", "2015-07-06T10:50:15.461Z", "02.02",
    ),
    "2017 L1C": Era(
        "1C", "compact", "S2A_MSIL1C_20170216T102101_N0204_R065_T30SUH_20170216T102204.SAFE", "MTD_MSIL1C.xml",
        "L1C_{tile}_A008642_20170216T102204", "{tile}_20170216T102101_{band}", "2017-02-16T10:21:01.026Z", "02.04",
    ),
    "2017 L2A": Era(
        "2A", "prototype", "S2A_MSIL2A_20170823T094031_N0205_R036_T30SUH_20170823T094252.SAFE", "MTD_MSIL2A.xml",
        "L2A_{tile}_A011330_20170823T094252", "L2A_{tile}_20170823T094031_{band}", "2017-08-23T09:40:31.026Z", "02.05",
    ),
    "2018 L2A": Era(
        "2A", "compact", "S2A_MSIL2A_20180818T094031_N0208_R036_T30SUH_20180818T120345.SAFE", "MTD_MSIL2A.xml",
        "L2A_{tile}_A016478_20180818T094030", "{tile}_20180818T094031_{band}", "2018-08-18T09:40:31.024Z", "02.08",
    ),
    "2018 L2A collection 1": Era(
        "2A", "compact", "S2A_MSIL2A_20180818T094031_N0500_R036_T30SUH_20230823T120345.SAFE", "MTD_MSIL2A.xml",
        "L2A_{tile}_A016478_20180818T094030", "{tile}_20180818T094031_{band}", "2018-08-18T09:40:31.024Z", "05.00",
    ),
    "2023 L1C": Era(
        "1C", "compact", "S2B_MSIL1C_20230823T095559_N0509_R122_T30SUH_20230823T120234.SAFE", "MTD_MSIL1C.xml",
        "L1C_{tile}_A033753_20230823T095553", "{tile}_20230823T095559_{band}", "2023-08-23T09:55:59.024Z", "05.09",
    ),
    "2023 L2A": Era(
        "2A", "compact", "S2B_MSIL2A_20230823T095559_N0509_R122_T30SUH_20230823T124759.SAFE", "MTD_MSIL2A.xml",
        "L2A_{tile}_A033753_20230823T095553", "{tile}_20230823T095559_{band}", "2023-08-23T09:55:59.024Z", "05.09",
    ),
    "2026 L2A": Era(
        "2A", "compact", "S2C_MSIL2A_20260611T105641_N0512_R094_T30SUH_20260611T142313.SAFE", "MTD_MSIL2A.xml",
        "L2A_{tile}_A004000_20260611T105640", "{tile}_20260611T105641_{band}", "2026-06-11T10:56:41.024Z", "05.12",
    ),
}  # fmt: skip


def make_product(
    folder: Path,
    era: str,
    *,
    add: int | None = None,
    offsets: Sequence[float] | None = None,
    bands: Sequence[str] = IDS,
    tiles: Sequence[str] = ("T30SUH",),
    quantification: int = 10_000,
    baseline: str | None = None,
    all_sizes: bool = True,
) -> Path:
    """Writes a product and gives its folder.

    Args:
        folder: in which it lies.
        era: a key of `ERAS`.
        add: what its values are higher than the truth; left out, what the era's baseline has.
        offsets: what the metadata states for each of the 13 bands; left out, -`add`, and none where that is 0.
        bands: whose files are there.
        tiles: of its granules.
        quantification: as its metadata states it.
        baseline: as its metadata states it, where it is not the era's.
        all_sizes: also the coarser copies of bands that level 2A has.

    """
    kind = ERAS[era]
    add = add if add is not None else 1000 if kind.baseline >= "04" else 0
    stated = offsets if offsets is not None else [-add] * 13 if add else None
    root = folder / kind.product
    for step, tile in enumerate(tiles):
        granule = root / "GRANULE" / kind.granule.format(tile=tile)
        origin = ORIGIN @ Affine.translation(step * SIZE, 0)
        _write_granule(granule, kind, tile, origin, add, bands, all_sizes)
    (root / kind.metadata).write_text(_product_xml(kind, tiles, stated, quantification, baseline), encoding="utf-8")
    (root / "manifest.safe").write_text("<xfdu:XFDU xmlns:xfdu='urn:ccsds:schema:xfdu:1'/>")
    return root


def _write_granule(
    granule: Path, kind: Era, tile: str, origin: Affine, add: int, bands: Sequence[str], all_sizes: bool
) -> None:
    images = granule / "IMG_DATA"

    def put(name: str, values: np.ndarray, metres: int) -> None:
        if kind.level == "2A":
            path = images / f"R{metres}m" / f"{kind.image.format(tile=tile, band=name)}_{metres}m.jp2"
        else:
            path = images / f"{kind.image.format(tile=tile, band=name)}.jp2"
        write_band(path, values, metres, origin)

    for band in bands:
        native = FINE[band]
        if kind.level == "2A" and band == "B10":
            continue
        # Level 2A has every band in its own size and in the coarser ones, and since 2021 B01 also at 20 m.
        sizes = {native, *(m for m in (20, 60) if m > native and band != "B08"), *({20} if band == "B01" else ())}
        for metres in sorted(sizes) if kind.level == "2A" and all_sizes else [native]:
            values = truth(band, metres)
            if (band, metres) == ("B01", 20):
                values = values // 2  # to tell it from the native one
            put(band, np.where(values > 0, values + add, 0).astype(np.uint16), metres)
    picture = np.full((SIZE // 2, SIZE // 2), 200, np.uint8)
    if kind.level == "2A":
        scl = np.full((SIZE // 2, SIZE // 2), 4, np.uint8)
        scl[:20, 40:] = 9
        for name, values in (("AOT", picture.astype(np.uint16)), ("WVP", picture.astype(np.uint16)), ("TCI", picture)):
            _side(images / "R20m", kind, tile, name, values, origin)
        where = images if kind.form == "old" else images / "R20m"
        _side(where, kind, tile, "SCL", scl, origin)
        _side(granule / "QI_DATA", kind, tile, "CLD" if kind.form != "compact" else "CLDPRB", picture, origin)
    else:
        if kind.form == "compact":
            write_band(images / f"{kind.image.format(tile=tile, band='TCI')}.jp2", picture, 20, origin)
        write_band(granule / "QI_DATA" / "MSK_DETFOO_B02.jp2", picture, 20, origin)
    name = {"old": f"{kind.granule.format(tile=tile)[:-7].replace('MSI', 'MTD')}.xml"}.get(kind.form, "MTD_TL.xml")
    (granule / name).write_text(_tile_xml(kind, tile, origin), encoding="utf-8")


def _side(folder: Path, kind: Era, tile: str, name: str, values: np.ndarray, origin: Affine) -> None:
    stem = kind.image.format(tile=tile, band=name)
    if kind.form == "old":  # the kind of image stands where MSI does in a band's name
        stem = kind.image.format(tile=tile, band="").rstrip("_").replace("MSI", name)
    write_band(folder / f"{stem}_20m.jp2", values, 20, origin)


def _product_xml(
    kind: Era, tiles: Sequence[str], offsets: Sequence[float] | None, quantification: int, baseline: str | None
) -> str:
    # Until 2018 the elements that Sen2Cor adds or changes begin with L2A_.
    early = "L2A_" if kind.level == "2A" and kind.form != "compact" else ""
    images = "".join(_granule_xml(kind, tile) for tile in tiles)
    if kind.level == "1C":
        values = f'<QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>'
        tag, group = "RADIO_ADD_OFFSET", "Radiometric_Offset_List"
    else:
        first = '<L1C_TOA_QUANTIFICATION_VALUE unit="none">7</L1C_TOA_QUANTIFICATION_VALUE>' if early else ""
        inner = f"""
          {first}
          <{early}BOA_QUANTIFICATION_VALUE unit="none">{quantification}</{early}BOA_QUANTIFICATION_VALUE>
          <{early}AOT_QUANTIFICATION_VALUE unit="none">1000.0</{early}AOT_QUANTIFICATION_VALUE>
          <{early}WVP_QUANTIFICATION_VALUE unit="cm">1000.0</{early}WVP_QUANTIFICATION_VALUE>"""
        name = "L1C_L2A_Quantification_Values_List" if early else "QUANTIFICATION_VALUES_LIST"
        values = f"<{name}>{inner}</{name}>"
        tag, group = "BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST"
    if offsets is not None:
        entries = "".join(f'<{tag} band_id="{n}">{offset:g}</{tag}>' for n, offset in enumerate(offsets))
        values += f"<{group}>{entries}</{group}>"
    address = f"<PRODUCT_URI>{kind.product}</PRODUCT_URI>"
    if kind.form == "prototype":
        address = address.replace("PRODUCT_URI", "PRODUCT_URI_2A")
    pilot = "p" if early else ""  # level 2A of Sen2Cor's first years is called 2Ap
    spacecraft = f"Sentinel-{kind.product[1:3]}"
    form = "SAFE" if kind.form == "old" else "SAFE_COMPACT"
    listed = "".join(f"<BAND_NAME>{band.replace('B0', 'B')}</BAND_NAME>" for band in IDS)
    spectral = "".join(
        f'<Spectral_Information bandId="{n}" physicalBand="{band.replace("B0", "B")}"><RESOLUTION>{FINE[band]}'
        '</RESOLUTION><Wavelength><CENTRAL unit="nm">500</CENTRAL></Wavelength></Spectral_Information>'
        for n, band in enumerate(IDS)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{kind.level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{kind.level}.xsd">
  <n1:General_Info>
    <{early}Product_Info>
      <PRODUCT_START_TIME>{kind.sensed}</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>{kind.sensed}</PRODUCT_STOP_TIME>
      {address}
      <PROCESSING_LEVEL>Level-{kind.level}{pilot}</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI{kind.level}{pilot}</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{baseline or kind.baseline}</PROCESSING_BASELINE>
      <GENERATION_TIME>2025-01-01T00:00:00.000Z</GENERATION_TIME>
      <Datatake datatakeIdentifier="G{kind.product[:3]}_20180818T094031_016478_N{kind.baseline}">
        <SPACECRAFT_NAME>{spacecraft}</SPACECRAFT_NAME>
        <DATATAKE_TYPE>INS-NOBS</DATATAKE_TYPE>
        <DATATAKE_SENSING_START>{kind.sensed}</DATATAKE_SENSING_START>
        <SENSING_ORBIT_NUMBER>36</SENSING_ORBIT_NUMBER>
        <SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
      </Datatake>
      <Query_Options completeSingleTile="true">
        <Band_List>{listed}</Band_List>
        <PRODUCT_FORMAT>{form}</PRODUCT_FORMAT>
      </Query_Options>
      <{early}Product_Organisation>{images}</{early}Product_Organisation>
    </{early}Product_Info>
    <{early}Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      {values}
      <Spectral_Information_List>{spectral}</Spectral_Information_List>
    </{early}Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Product_Footprint><Product_Footprint><Global_Footprint>
      <EXT_POS_LIST>37.9 -1.86 37.9 -1.80 37.94 -1.80 37.94 -1.86 37.9 -1.86</EXT_POS_LIST>
    </Global_Footprint></Product_Footprint></Product_Footprint>
  </n1:Geometric_Info>
</n1:Level-{kind.level}_User_Product>
"""


def _granule_xml(kind: Era, tile: str) -> str:
    granule = kind.granule.format(tile=tile)
    names = []
    for band in IDS:
        stem = kind.image.format(tile=tile, band=band)
        if kind.level == "1C":
            names.append(stem if kind.form == "old" else f"GRANULE/{granule}/IMG_DATA/{stem}")
        elif band != "B10":
            size = FINE[band]
            name = f"{stem}_{size}m"
            names.append(name if kind.form == "old" else f"GRANULE/{granule}/IMG_DATA/R{size}m/{name}")
    tag = ("IMAGE_ID" if kind.form == "old" else "IMAGE_FILE") + (
        "_2A" if kind.level == "2A" and kind.form != "compact" else ""
    )
    outer = "Granules" if kind.form == "old" else "Granule"
    files = "".join(f"<{tag}>{name}</{tag}>" for name in names)
    identifier = granule
    if kind.form != "old":
        identifier = f"S2A_OPER_MSI_L{kind.level}_TL_X_20180818T120345_A016478_{tile}_N02.08"
    inner = f'<{outer} granuleIdentifier="{identifier}" imageFormat="JPEG2000">{files}</{outer}>'
    return f"<Granule_List>{inner}</Granule_List>"


def _tile_xml(kind: Era, tile: str, origin: Affine) -> str:
    sizes = "".join(
        f'<Size resolution="{m}"><NROWS>{SIZE * 10 // m}</NROWS><NCOLS>{SIZE * 10 // m}</NCOLS></Size>'
        f'<Geoposition resolution="{m}"><ULX>{origin.c:.0f}</ULX><ULY>{origin.f:.0f}</ULY><XDIM>{m}</XDIM>'
        f"<YDIM>-{m}</YDIM></Geoposition>"
        for m in (10, 20, 60)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{kind.level}_Tile_ID xmlns:n1="https://psd-12.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{kind.level}_Tile_Metadata.xsd">
  <n1:General_Info>
    <TILE_ID metadataLevel="Brief">{kind.granule.format(tile=tile)}</TILE_ID>
    <SENSING_TIME metadataLevel="Standard">{kind.sensed}</SENSING_TIME>
  </n1:General_Info>
  <n1:Geometric_Info><Tile_Geocoding metadataLevel="Brief">
    <HORIZONTAL_CS_NAME>WGS84 / UTM zone 30N</HORIZONTAL_CS_NAME>
    <HORIZONTAL_CS_CODE>EPSG:32630</HORIZONTAL_CS_CODE>{sizes}
  </Tile_Geocoding></n1:Geometric_Info>
</n1:Level-{kind.level}_Tile_ID>
"""
