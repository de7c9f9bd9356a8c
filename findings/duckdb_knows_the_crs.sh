#!/usr/bin/env bash
# What DuckDB 2.0 makes of the geometry column of a GeoParquet file without its spatial extension.
#
# Guess: bytes (BLOB); reference system and geometry type need the extension, which it downloads.
# Seen: a column of the type GEOMETRY that carries the whole PROJJSON of the reference system, from DuckDB alone; and
# a folder of files with other columns is an error of the first file's columns, not a table with gaps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "duckdb==2.0.1" "geopandas==1.1.1" "pyarrow==22.0.0"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import duckdb
import geopandas as gpd
import pandas as pd
import shapely

print("duckdb", duckdb.__version__, "geopandas", gpd.__version__)
square = gpd.GeoDataFrame({"area_m2": [100.0]}, geometry=[shapely.box(0, 0, 10, 10)], crs="EPSG:32630")
square.to_parquet("b.parquet")
pd.DataFrame({"file": ["b.parquet"]}).to_parquet("a.parquet")
kind = dict(duckdb.sql("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM 'b.parquet')").fetchall())["geometry"]
print("geometry is", kind[:90], "...")
loaded = duckdb.sql("SELECT loaded FROM duckdb_extensions() WHERE extension_name = 'spatial'").fetchall()
assert loaded in ([], [(False,)]), loaded
assert kind.startswith("GEOMETRY(") and "32630" in kind
try:
    duckdb.sql("SELECT sum(area_m2) FROM '*.parquet'").fetchall()
    raise SystemExit("the two files were read as one table")
except duckdb.BinderException as error:
    print("two files of other columns:", str(error).splitlines()[0])
PY
