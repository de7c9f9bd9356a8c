"""Which readers open our Zarr stores, with which values, place, nodata and overviews? Each by its own program.

    python benchmarks/zarr_readers.py --reader 'xarray=python3.13' --reader 'rioxarray=python3.13' \
        --reader 'rasterio=python3.13' --reader 'gdal=/usr/bin/python3' --reader 'zarrita=DIR'

Makes stores of every kind from the shipped flood image, then runs each reader in the interpreter that is named, which
needs nothing of prithvi (`zarrita` is a folder in which `npm install zarrita node@24` was run). A reader reads every
array whole; the checksum of its values, in the order and type of the array, must be that of what was written. With
`--validator python3.13` zarr-cm there says whether the attributes are those of the conventions' releases.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from affine import Affine

COMMON = """
import hashlib, json, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
stores = json.load(open(sys.argv[1]))
def told(values, wanted):
    values = np.ascontiguousarray(np.asarray(values).astype(wanted["dtype"]).reshape(wanted["shape"]))
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
def each(read):
    found = {}
    for store, arrays in stores.items():
        for name, wanted in arrays.items():
            try:
                found[f"{store}/{name}"] = read(store, name, wanted)
            except Exception as error:
                found[f"{store}/{name}"] = {"error": f"{type(error).__name__}: {error}"}
    print("RESULT" + json.dumps({"version": version, "found": found}))
"""
READERS = {
    "zarr": """
import zarr
version = f"zarr-python {zarr.__version__}"
def read(store, name, wanted):
    return {"sha": told(zarr.open_group(store, mode="r")[name][...], wanted)}
each(read)
""",
    "xarray": """
import xarray, zarr
version = f"xarray {xarray.__version__} (zarr {zarr.__version__})"
def read(store, name, wanted):
    array = xarray.open_zarr(store, mask_and_scale=False)[name]
    levels = {}
    for level, other in wanted["overviews"].items():
        levels[level] = told(xarray.open_zarr(store, group=level, mask_and_scale=False)[name].values, other)
    return {"sha": told(array.values, wanted), "overviews": levels}
each(read)
""",
    "rioxarray": """
import rioxarray, xarray
version = f"rioxarray {rioxarray.__version__}"
def read(store, name, wanted):
    array = xarray.open_zarr(store, mask_and_scale=False, decode_coords="all")[name]
    found = {"sha": told(array.values, wanted)}
    try:
        crs = array.rio.crs
        found |= {"crs": crs and str(crs.to_epsg()), "transform": list(array.rio.transform())[:6],
                  "nodata": None if array.rio.nodata is None else float(array.rio.nodata)}
    except Exception as error:  # chips have no place of their own
        found["place"] = f"{type(error).__name__}: {error}"
    return found
each(read)
""",
    "rasterio": """
import rasterio
version = f"rasterio {rasterio.__version__} (GDAL {rasterio.__gdal_version__})"
def read(store, name, wanted):
    with rasterio.open(f'ZARR:"{store}":/{name}') as raster:
        return {"sha": told(raster.read(), wanted), "crs": raster.crs and str(raster.crs.to_epsg()),
                "transform": list(raster.transform)[:6], "nodata": raster.nodata}
each(read)
""",
    "gdal": """
from osgeo import gdal
gdal.UseExceptions()
version = f"GDAL {gdal.__version__}"
def read(store, name, wanted):
    raster = gdal.Open(f'ZARR:"{store}":/{name}')
    band, system, c = raster.GetRasterBand(1), raster.GetSpatialRef(), raster.GetGeoTransform()
    levels = {}
    for level, other in wanted["overviews"].items():
        place = list(wanted["overviews"]).index(level)
        bands = [raster.GetRasterBand(n + 1) for n in range(raster.RasterCount)]
        if band.GetOverviewCount() > place:
            levels[level] = told(np.stack([each.GetOverview(place).ReadAsArray() for each in bands]), other)
    return {"sha": told(raster.ReadAsArray(), wanted), "crs": system and system.GetAuthorityCode(None),
            "transform": [c[1], c[2], c[0], c[4], c[5], c[3]], "nodata": band.GetNoDataValue(), "overviews": levels}
each(read)
""",
}
ZARRITA = """
import { readFileSync } from "fs"; import { createHash } from "crypto";
import * as zarr from "zarrita"; import { FileSystemStore } from "@zarrita/storage";
const stores = JSON.parse(readFileSync(process.argv[2])), found = {};
// Half floats are known to JavaScript from Node 24 on.
const version = JSON.parse(readFileSync("node_modules/zarrita/package.json")).version;
const sha = (data) => createHash("sha256").update(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
  .digest("hex").slice(0, 16);
for (const [store, arrays] of Object.entries(stores)) for (const [name, wanted] of Object.entries(arrays)) {
  try {
    const root = zarr.root(new FileSystemStore(store));
    const group = await zarr.open(root, { kind: "group" });
    const one = async (path) => sha((await zarr.get(await zarr.open(root.resolve(path), { kind: "array" }))).data);
    const levels = {};
    for (const level of Object.keys(wanted.overviews)) levels[level] = await one(`${level}/${name}`);
    found[`${store}/${name}`] = { sha: await one(name), overviews: levels,
      crs: (group.attrs["proj:code"] ?? "").split(":")[1] ?? null, transform: group.attrs["spatial:transform"] };
  } catch (error) { found[`${store}/${name}`] = { error: `${error.name}: ${error.message}` }; }
}
console.log("RESULT" + JSON.stringify({ version: `zarrita ${version} (Node ${process.version})`, found }));
"""
VALIDATOR = """
import importlib.metadata, json, sys
import zarr_cm
from zarr_cm import multiscales, proj, spatial
groups = json.load(open(sys.argv[1]))
for name, attributes in groups.items():
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    for entry in attributes.get("zarr_conventions", []):
        module = {"proj": proj, "spatial": spatial, "multiscales": multiscales}[entry["name"]]
        module.validate_group_metadata(document)
        assert entry == dict(module.CMO), (name, entry)
print(f"zarr-cm {importlib.metadata.version('zarr-cm')}: the groups of {len(groups)} stores and levels are valid")
"""


def make(folder: Path) -> None:
    """Stores of every kind, in both formats where there are two."""
    from prithvi.catalog import data_catalog
    from prithvi.chips import Chip, ChipStore, Sample, StoreSpec
    from prithvi.contract import Category
    from prithvi.mapping import embed_scene, fill_series, map_scene
    from prithvi.products.products import Products
    from prithvi.scenes import open_scene

    samples = data_catalog() / "sen1floods11" / "samples"
    image = next((samples / "S2Hand").glob("*.tif"))
    one = open_scene(image, sensor="sentinel-2-l1c", offset=0, dates=["2018-08-01"]).load()
    utm = Affine(10, 0, 600_000, 0, -10, 4_200_000)

    def placed(values: np.ndarray, transform: Affine, days: list[str]) -> xr.DataArray:
        times = np.array(days, "datetime64[ns]")
        scene = xr.DataArray(values, dims=one.dims, coords={"band": one["band"], "time": times}, attrs=one.attrs)
        written: xr.DataArray = scene.rio.write_crs("EPSG:32630").rio.write_transform(transform)
        if not transform.b:
            height, width = values.shape[-2:]
            xs, ys = transform.c + transform.a * (np.arange(width) + 0.5), np.arange(height) + 0.5
            written = written.assign_coords(x=xs, y=transform.f + transform.e * ys)
        return written

    # The sample four times is wider than the least overview; its windows are what they are.
    wide = placed(np.tile(one.values, (1, 1, 2, 2))[..., :1001, :1003], utm, ["2018-08-01"])
    turned = placed(one.values[..., :256, :256], utm @ Affine.rotation(20), ["2018-08-01"])
    holes = np.random.default_rng(0).random((3, 1, 601, 603)) < 0.2
    dates = np.where(holes, np.nan, wide.values[..., :601, :603] + np.arange(3)[:, None, None, None]).astype("float32")
    series = placed(dates, utm, ["2018-08-01", "2018-08-11", "2018-08-21"])
    wanted = Products(confidence=True)
    for number in (2, 3):
        embed_scene("prithvi_hls_tiny", wide, folder / f"embeddings_{number}.zarr", zarr_format=number)
        embed_scene("prithvi_hls_tiny", wide, folder / f"int8_{number}.zarr", dtype="int8", zarr_format=number)
        embed_scene("prithvi_hls_tiny", turned, folder / f"turned_{number}.zarr", zarr_format=number)
        map_scene("water", wide, folder / f"map_{number}.zarr", products=wanted, zarr_format=number)
        fill_series(series, folder / f"cube_{number}.zarr", "linear", zarr_format=number)
    image, bands = one.values[0].astype(np.int16), tuple(one["band"].values.tolist())
    classes = (Category(0, "land", "8a6d3b"), Category(1, "water", "2b6cb0"))
    chips = []
    for row, column in np.ndindex(4, 4):
        down, along = slice(128 * row, 128 * row + 128), slice(128 * column, 128 * column + 128)
        place = utm @ Affine.translation(along.start, down.start)
        facts: dict[str, Any] = {"times": (None,), "granules": ("",), "good": (1.0,), "filled": (0,), "split": "train"}
        sample = Sample.at(place, "EPSG:32630", (128, 128), name=f"{row}_{column}", **facts)
        label = (image[3, down, along] < 1000).astype(np.uint8)  # dark in the near infrared
        chips.append(Chip(image[None, :, down, along], sample, label=label))
    for name, sharding in (("shards", True), ("plain", False)):
        spec = StoreSpec(128, 128, 1, bands, fmask=False, classes=classes, sharding=sharding)
        ChipStore.create(folder / f"chips_{name}.zarr", spec, chips)


def described(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """By store and array its form, for the readers; and by both in one what they have to find."""
    stores: dict[str, Any] = {}
    truth: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.zarr")):
        group = zarr.open_group(path, mode="r")
        attrs = dict(group.attrs)
        for name in ("class", "confidence", "embedding", "image", "filled", "uncertainty", "label"):
            if name not in group or len(group[name].shape) < 2 or min(group[name].shape[-2:]) < 32:  # type: ignore[union-attr]
                continue
            form: dict[str, Any] = form_of(group[name])
            layout = attrs.get("multiscales", {}).get("layout", [{}])  # type: ignore[union-attr]
            levels = [str(entry["asset"]) for entry in layout[1:]]  # type: ignore[index]
            form["overviews"] = {level: form_of(group[level][name]) for level in levels}  # type: ignore[index]
            stores.setdefault(str(path), {})[name] = form
            code = str(attrs.get("proj:code", "")).partition(":")[2]
            transform: Any = attrs.get("spatial:transform")
            truth[f"{path}/{name}"] = {"crs": code or None, "transform": transform, **form}
    return stores, truth


def form_of(array: Any) -> dict[str, Any]:
    values = np.ascontiguousarray(array[...])
    sha = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return {"dtype": values.dtype.str, "shape": list(values.shape), "sha": sha}


def run(kind: str, command: str, manifest: Path) -> dict[str, Any]:
    """What a reader says of all stores."""
    if kind == "zarrita":
        script = Path(command) / "read_stores.mjs"
        script.write_text(ZARRITA, encoding="utf-8")
        own = Path(command) / "node_modules" / ".bin" / "node"
        words, where = [str(own) if own.exists() else "node", script.name, str(manifest)], command
    else:
        words, where = [*shlex.split(command), "-c", COMMON + READERS[kind], str(manifest)], None
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    if line is None:
        raise SystemExit(f"{kind} ({command}) gave nothing:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
    return answer


def cell(answer: dict[str, Any], truth: dict[str, Any], folder: Path) -> str:
    """What one reader makes of one array, in a few words."""
    if "error" in answer:
        return "refused: " + str(answer["error"]).split("\n")[0].replace(str(folder) + "/", "")[:70]
    words = ["equal" if answer["sha"] == truth["sha"] else "OTHER VALUES"]
    if "crs" in answer:
        same = answer["crs"] == truth["crs"]
        words.append("no CRS" if not answer["crs"] else f"EPSG:{answer['crs']}" + ("" if same else " (other)"))
    if answer.get("transform") is not None:
        if truth["transform"] is not None and np.allclose(answer["transform"], truth["transform"], rtol=1e-12):
            words.append("in place")
        else:
            words.append("no place" if answer["transform"] in ([1, 0, 0, 0, 1, 0], None) else "another place")
    if answer.get("nodata") is not None:
        words.append(f"nodata {answer['nodata']:g}")
    if truth["overviews"] and "overviews" in answer:
        right = [level for level, sha in answer["overviews"].items() if sha == truth["overviews"][level]["sha"]]
        words.append(f"{len(right)} of {len(truth['overviews'])} overviews")
    return ", ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", action="append", required=True, help="KIND=COMMAND")
    parser.add_argument("--validator", help="an interpreter with zarr-cm")
    parser.add_argument("--keep", type=Path, help="folder for the stores; a temporary one by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "chips_plain.zarr").exists():  # the last
            make(folder)
        stores, truth = described(folder)
        manifest = folder / "manifest.json"
        manifest.write_text(json.dumps(stores), encoding="utf-8")
        answers = [run(*reader.split("=", 1), manifest) for reader in options.reader]
        print("| store and array | " + " | ".join(answer["version"] for answer in answers) + " |")
        print("|---|" + "---|" * len(answers))
        for key, right in truth.items():
            cells = [cell(answer["found"][key], right, folder) for answer in answers]
            print(f"| {Path(key).parent.stem}/{Path(key).name} | " + " | ".join(cells) + " |")
        if options.validator:
            groups = {}
            for path in sorted(folder.glob("*.zarr")):
                group = zarr.open_group(path, mode="r")
                groups |= {path.name: dict(group.attrs)}
                groups |= {f"{path.name}/{name}": dict(level.attrs) for name, level in group.groups()}
            manifest.write_text(json.dumps(groups), encoding="utf-8")
            words = [*shlex.split(options.validator), "-c", VALIDATOR, str(manifest)]
            print("\n" + subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())


if __name__ == "__main__":
    main()
