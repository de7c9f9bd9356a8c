#!/usr/bin/env bash
# ukis-csmask's networks look at tiles of 256 x 256 pixels, and `nodata_value` says which pixels hold no data.
# Guess: -9999 in a corner of 16 x 16 pixels (.4 % of a tile) may spoil the classes around it; far off, in the three
# quarters of the tile that begin 112 pixels away, clouds stay what they are.
# Seen (ukis-csmask 1.0.0): two fifths of those pixels change, nearly all of them from cloud to clear. The encoder
# (efficientnet-b4) weighs its channels by their means over the whole tile, and the fill is 30,000 standard deviations off.
# A fill of each band's mean changes hardly any: put that in before, and mask these pixels after.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ukis-csmask==1.0.0 onnxruntime==1.32.0 numpy==2.2.6 scipy==1.15.3
cat > "$work/see.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from scipy.ndimage import gaussian_filter
from ukis_csmask.mask import CSmask

BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]
LAND, VEIL = np.array([0.05, 0.08, 0.07, 0.28, 0.2, 0.12]), np.array([0.5, 0.5, 0.5, 0.55, 0.4, 0.3])
CORNER = 16
far = np.ones((256, 256), bool)
far[:128, :128] = False


def classes(image, nodata):
    seen = CSmask(
        image.copy(), BANDS, product_level="l2a", nodata_value=nodata, intra_op_num_threads=1,
        providers=["CPUExecutionProvider"],
    )
    return seen.csm[..., 0]


print("ukis-csmask", version("ukis-csmask"))
right = True
for seed in (0, 1):
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.normal(size=(256, 256)), width) for width in (3, 12)]
    texture, thick = (field[..., None] / field.std() for field in fields)
    cover = np.clip(thick - 1, 0, 1)
    image = (LAND * (1 + 0.15 * texture) * (1 - cover) + VEIL * cover).astype(np.float32)
    whole, changed = classes(image, None), {}
    for name, fill in (("-9999", -9999), ("the mean of each band", image.mean(axis=(0, 1)))):
        filled = image.copy()
        filled[:CORNER, :CORNER] = fill
        found = classes(filled, -9999)
        changed[name] = float((found != whole)[far].mean())
        clouds = [f"{(each[far] == 1).mean():.1%}" for each in (whole, found)]
        print(f"scene {seed}, corner of {name}: guess under 3 % changed far off; seen {changed[name]:.1%}, "
              f"clouds {clouds[0]} before and {clouds[1]} after")
    right = right and changed["-9999"] > 0.05 and changed["the mean of each band"] < 0.03
sys.exit(0 if right else 1)
PYTHON
"$work/venv/bin/python" "$work/see.py"
