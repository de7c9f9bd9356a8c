#!/usr/bin/env bash
# ukis-csmask takes `nodata_value`, and its `valid` promises 0 for clouds, shadows and nodata, 1 for the rest.
# Guess: pixels that hold -9999 in all bands are not valid with nodata_value=-9999.
# Seen (ukis-csmask 1.0.0): they are. It makes a mask of 0 and 1 and looks in it for the nodata value instead of for 0, so
# that no value but 0 is ever found; with nodata_value=1 every pixel with data is invalid instead. The class mask `csm`
# knows nothing of nodata at all: a network sees the fill, and answers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ukis-csmask==1.0.0 onnxruntime==1.32.0 numpy==2.2.6 scipy==1.15.3
cat > "$work/see.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ukis_csmask.mask import CSmask

BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]
FILL = slice(0, 56)
DATA = slice(80, 256)
"""Rows; clouds and nodata grow by four pixels, so those between count for neither."""
random = np.random.default_rng(0)
grass = np.array([0.03, 0.05, 0.04, 0.25, 0.15, 0.08]) + random.normal(0, 0.003, (256, 256, 6))

print("ukis-csmask", version("ukis-csmask"))
found = {}
for nodata in (0, -9999, 1):
    image = grass.astype(np.float32)
    image[:64] = nodata
    seen = CSmask(
        image, BANDS, product_level="l2a", nodata_value=nodata, intra_op_num_threads=1,
        providers=["CPUExecutionProvider"],
    )
    found[nodata] = (float(seen.valid[FILL].mean()), float(seen.valid[DATA].mean()))
    print(f"nodata_value={nodata}: guess 0.0 of the fill valid, 1.0 of the data; seen {found[nodata]}")
sys.exit(0 if found == {0: (0.0, 1.0), -9999: (1.0, 1.0), 1: (0.0, 0.0)} else 1)
PYTHON
"$work/venv/bin/python" "$work/see.py"
