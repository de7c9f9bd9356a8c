#!/usr/bin/env bash
# GDAL's driver SENTINEL2 opens a product whose images are only half there, and reads the missing bands as 0.
# One would guess: an error, or pixels without data. Seen: a warning in GDAL's log, values 0, and no nodata value.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "rasterio==1.4.4" "numpy==2.2.6"
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

PRODUCT = "S2A_MSIL1C_20170216T102101_N0204_R065_T30SUH_20170216T102204.SAFE"
GRANULE, STEM = "L1C_T30SUH_A008642_20170216T102204", "T30SUH_20170216T102101"
images = Path(PRODUCT, "GRANULE", GRANULE, "IMG_DATA")
images.mkdir(parents=True)
for band in ("B02", "B03", "B08"):  # B04 was not downloaded
    with rasterio.open(
        images / f"{STEM}_{band}.jp2", "w", driver="JP2OpenJPEG", height=64, width=64, count=1, dtype="uint16",
        crs="EPSG:32630", transform=Affine(10, 0, 600000, 0, -10, 4200000), QUALITY=100, REVERSIBLE="YES",
    ) as raster:
        raster.write(np.full((64, 64), 1234, np.uint16), 1)
names = "".join(f"<IMAGE_FILE>GRANULE/{GRANULE}/IMG_DATA/{STEM}_{b}</IMAGE_FILE>" for b in ("B02", "B03", "B04", "B08"))
Path(PRODUCT, "MTD_MSIL1C.xml").write_text(f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-1C_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd">
<n1:General_Info><Product_Info><PRODUCT_URI>{PRODUCT}</PRODUCT_URI><PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL>
<PRODUCT_TYPE>S2MSI1C</PRODUCT_TYPE><PROCESSING_BASELINE>02.04</PROCESSING_BASELINE>
<Query_Options completeSingleTile="true"><PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT></Query_Options>
<Product_Organisation><Granule_List><Granule granuleIdentifier="S2A_OPER_MSI_L1C_TL_SGS__20170216T102204_A008642_T30SUH_N02.04"
imageFormat="JPEG2000">{names}</Granule></Granule_List></Product_Organisation></Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>
</Product_Image_Characteristics></n1:General_Info></n1:Level-1C_User_Product>""")
Path(PRODUCT, "GRANULE", GRANULE, "MTD_TL.xml").write_text("""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-1C_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Tile_Metadata.xsd">
<n1:Geometric_Info><Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:32630</HORIZONTAL_CS_CODE>
<Size resolution="10"><NROWS>64</NROWS><NCOLS>64</NCOLS></Size><Geoposition resolution="10"><ULX>600000</ULX>
<ULY>4200000</ULY><XDIM>10</XDIM><YDIM>-10</YDIM></Geoposition></Tile_Geocoding></n1:Geometric_Info>
</n1:Level-1C_Tile_ID>""")
print(f"rasterio {rasterio.__version__}, GDAL {rasterio.__gdal_version__}")
with rasterio.open(f"SENTINEL2_L1C:{PRODUCT}/MTD_MSIL1C.xml:10m:EPSG_32630") as raster:
    seen = {text.split(",")[0]: int(raster.read(n).max()) for n, text in enumerate(raster.descriptions, start=1)}
    nodata = raster.nodata
print("guessed: B4 cannot be read, or is nodata")
print(f"seen: highest value by band {seen}, nodata {nodata}")
sys.exit(0 if seen == {"B4": 0, "B3": 1234, "B2": 1234, "B8": 1234} and nodata is None else 1)
PYTHON
