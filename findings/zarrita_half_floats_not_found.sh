#!/usr/bin/env bash
# What zarrita says of an array of 16-bit floats, which Zarr has had from its first format on.
#
# Guess: it opens it, or says that it cannot read the type.
# Seen: zarrita 0.7.5 reads it where JavaScript has Float16Array (Node 24). On Node 20, which has not, it says that there is
# no such array ("Not found: v3 array or group"), while the one of 32-bit floats beside it opens; asked for format 2 by
# name it gives the reason.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "zarr==3.1.6" "numpy==2.3.5"
cd "$folder"
venv/bin/python -W ignore - <<'PY'
import numpy as np
import zarr

group = zarr.open_group("store.zarr", mode="w", zarr_format=2)
for kind in ("f2", "f4"):
    group.create_array(kind, shape=(64, 64), chunks=(64, 64), dtype=kind)[:] = np.arange(4096).reshape(64, 64)
PY
cat > read.mjs <<'JS'
import { FileSystemStore } from "@zarrita/storage";
import * as zarr from "zarrita";
const root = zarr.root(new FileSystemStore(`${process.cwd()}/store.zarr`)), said = [];
for (const [open, kind] of [[zarr.open, "f4"], [zarr.open, "f2"], [zarr.open.v2, "f2"]]) {
  try { said.push((await zarr.get(await open(root.resolve(kind), { kind: "array" }), [1, 1])) + ""); }
  catch (error) { said.push(error.message); }
}
const old = process.version.startsWith("v20");
console.log(process.version, said);
const wanted = old ? ["65", "Not found: v3 array or group", "Unknown or unsupported dataType: float16"] : ["65", "65", "65"];
process.exit(JSON.stringify(said) === JSON.stringify(wanted) ? 0 : 1);
JS
for version in 20.19.5 24.11.0; do
    npm install --silent --no-fund --no-audit "zarrita@0.7.5" "node@$version" >/dev/null 2>&1
    node_modules/.bin/node read.mjs
done
