#!/usr/bin/env bash
# Guess: pyproj's CRS.equals(..., ignore_axis_order=True) says that a system and the WKT 1 made of it are one, as it does
# for EPSG:32615; and that a UTM zone stated in words, as in HLS 2.0 granules, is the EPSG code's.
# Seen (pyproj 3.7.2, PROJ 9.5.1): EPSG:3035 (ETRS89 / LAEA Europe) is equal neither to its WKT1_GDAL nor to its
# WKT1_ESRI, EPSG:4326 not to a realization of WGS 84 (EPSG:9057) nor to EPSG:4979 without heights; the HLS 2.0 spelling
# ("Unknown datum based upon the WGS 84 ellipsoid") is another system for pyproj, rasterio and odc-geo alike. Corners
# agree to the millimetre in all of them. A no of these libraries is no proof that two rasters lie apart.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pyproj==3.7.2 rasterio==1.4.4 odc-geo==0.5.3
"$work/venv/bin/python" - <<'PY'
import numpy as np
import pyproj
from odc.geo.crs import CRS as OdcCRS
from pyproj import CRS, Transformer
from rasterio.crs import CRS as RasterioCRS

hls = (
    'PROJCS["UTM Zone 15, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",DATUM["Not_'
    'specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",'
    '0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_'
    'meridian",-93],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]')
lon = {32615: -93.0, 3035: 10.0, 4326: 10.0}
pairs = [
    (32615, "its WKT1_GDAL", CRS(32615).to_wkt("WKT1_GDAL"), True),
    (32615, "HLS 2.0's words", hls, False),
    (3035, "its WKT1_GDAL", CRS(3035).to_wkt("WKT1_GDAL"), False),
    (3035, "its WKT1_ESRI", CRS(3035).to_wkt("WKT1_ESRI"), False),
    (4326, "EPSG:9057, WGS 84 (G1762)", CRS(9057).to_wkt(), False),
]
print("pyproj", pyproj.__version__, "PROJ", pyproj.proj_version_str)
ok = True
for code, name, wkt, expected in pairs:
    one, other = CRS(code), CRS(wkt)
    said = one.equals(other, ignore_axis_order=True)
    more = RasterioCRS.from_wkt(one.to_wkt()) == RasterioCRS.from_wkt(wkt), OdcCRS(f"EPSG:{code}") == OdcCRS(wkt)
    point = lon[code] + 1.0, 45.0
    here, there = (np.array(Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True).transform(*point))
                   for crs in (one, other))
    apart = float(np.abs(here - there).max())
    print(f"EPSG:{code} and {name}: pyproj {said}, rasterio {more[0]}, odc-geo {more[1]}; numbers apart by {apart:.1e}")
    ok = ok and said is expected and apart < 1e-3
print("guessed: equal, all of them")
raise SystemExit(0 if ok else 1)
PY
