"""The process that does the work: it reads requests as lines of JSON, and writes progress and answers as such.

It ends when its input does, at once: the service that started it is gone then.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import re
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from prithvi.errors import OutputError, PrithviError, without_secrets
from prithvi.files import dumps
from prithvi.guard import Guard
from prithvi.hosts import ALLOW
from prithvi.service.places import Places
from prithvi.service.settings import RefusedError

if TYPE_CHECKING:
    import xarray as xr

READ = ("GTiff", "JP2OpenJPEG")
"""Formats of GDAL that scenes may have, beside HDF4, which is read without it. A file of another one, such as VRT, may
name further files and addresses, which nobody would have checked, and a name ending in .tif says nothing of the format.
"""
WRITTEN = ("COG", "VRT", "MEM", "GPKG")
"""Others that are there, to write results: a COG is copied from a VRT of finished rows."""
BESIDE = {
    "_confidence.tif": "confidence", ".parquet": "polygons", ".gpkg": "polygons", ".qml": "style",
    ".aux.xml": "metadata",
}  # fmt: skip
"""End of a file beside a map to the output that it is."""
_RESTRICTED = "PRITHVI_WORKER_RESTRICTED"
_ITEM = re.compile(r"\.(geo)?json$|/items/[^/]+/?$", re.IGNORECASE)
_OPTION = re.compile(r"--(accept|bands|bbox|clouds-are|clouds|date|level|nodata|offset|scale|sensor)\b(?!-)")
"""Options of the command line that a request has as inputs."""
_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s,:;'\"()]+/)+")


def main() -> None:
    """Answers requests until there are no more."""
    if _RESTRICTED not in os.environ:
        _without_drivers()
    _read_only_these()
    # Whatever prints to standard output would stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    worker = Worker(json.loads(lines.get()), answers)
    while True:
        worker.answer(json.loads(lines.get()))


def _without_drivers() -> None:
    """Starts this process anew without all other formats: GDAL reads the list of these when it is loaded."""
    import rasterio

    with rasterio.Env() as env:
        others = [name for name in env.drivers() if name not in (*READ, *WRITTEN)]
    os.environ["GDAL_SKIP"] = ",".join(others)  # names have spaces
    os.environ[_RESTRICTED] = "1"
    os.execv(sys.executable, [sys.executable, "-m", "prithvi.service.worker"])


def _read_only_these() -> None:
    """Has rasterio open files of `READ` alone, whatever else GDAL knows, in the whole process."""
    import rasterio

    with rasterio.Env():  # reads the list; pyogrio's GDAL, which reads no scene, has other formats and would complain
        del os.environ["GDAL_SKIP"]
    plain = rasterio.open

    @functools.wraps(plain)
    def opened(path: Any, mode: str = "r", driver: Any = None, *more: Any, **options: Any) -> Any:
        if mode == "r" and driver is None:
            driver = READ[bool(re.search(r"\.(jp2|j2k)([?#].*)?$", str(path), re.IGNORECASE))]
        return plain(path, mode, driver, *more, **options)

    rasterio.open = opened


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


class Worker:
    """Runs requests one after the other; the model of the last one stays in memory.

    Args:
        settings: folders, hosts, private_hosts, max_pixels, device, engine and batch_size of the service.
        answers: where lines go.

    """

    def __init__(self, settings: Mapping[str, Any], answers: TextIO) -> None:
        self.settings, self.answers = settings, answers
        self.places = Places([Path(folder) for folder in settings["folders"]], settings["hosts"],
                             settings["private_hosts"])  # fmt: skip
        self.guard = Guard(self.places.reach)
        os.environ.update({**self.guard.environment(), ALLOW: ",".join(settings["private_hosts"])})

    def say(self, **plain: Any) -> None:
        """A line to the service."""
        self.answers.write(dumps(plain) + "\n")
        self.answers.flush()

    def answer(self, request: Mapping[str, Any]) -> None:
        """Runs a request; whatever goes wrong is one sentence without a path of this machine."""
        self.guard.taken()
        folder = Path(request["folder"])
        try:
            results = {"map": self.map, "embed": self.embed, "fill": self.fill}[request["kind"]](request, folder)
        except RefusedError as error:
            self.say(error=self.plain(str(error), folder), status=error.status, code=error.code)
        except OutputError as error:  # no fault of the request
            self.say(error=self.plain(str(error), folder), status=507, code="NoApplicableCode")
        except PrithviError as error:
            refused = self.guard.taken()
            if refused:
                self.say(error=refused[0], status=403, code="Forbidden")
            else:
                self.say(error=self.plain(str(error), folder), status=400, code="InvalidParameterValue")
        except Exception as error:  # noqa: BLE001 - the service goes on, and its log has the traceback
            traceback.print_exc()
            self.say(
                error=f"the work ended with an unexpected {type(error).__name__}; the service's log says more.",
                status=500, code="NoApplicableCode",
            )  # fmt: skip
        else:
            self.say(results=results)

    def plain(self, text: str, folder: Path) -> str:
        """A message without paths of this machine and without secrets of addresses; inputs have their names in it."""
        text = self.places.shown(text.replace(f"{folder}/", ""))
        text = _OPTION.sub(lambda option: option[1].replace("-", "_").replace("date", "dates"), text)
        return " ".join(_PATH.sub("", without_secrets(text)).split())

    def opened(self, request: Mapping[str, Any]) -> tuple[xr.DataArray, dict[str, Any]]:
        """The scene of a request, which is not larger than allowed, and how it was opened; no pixel is read."""
        from prithvi.scenes import Area, open_scene

        inputs = request["inputs"]
        opening = {name: inputs.get(name) for name in ("sensor", "level", "scale", "offset", "nodata", "dates")}
        bands = inputs.get("bands")
        if bands and all(isinstance(band, int) for band in bands):
            if len(bands) != len(request["bands"]):
                raise RefusedError(f"bands has {len(bands)} numbers; this model wants one each for "
                                   f"{', '.join(request['bands'])}.")  # fmt: skip
            bands = dict(zip(request["bands"], bands, strict=True))
        opening["bands"] = bands
        sources = [self.places.allowed(source) for source in inputs["scene"]]
        items, refused = self._items(sources)
        given: Any = items or (sources[0] if len(sources) == 1 else sources)
        try:
            scene = open_scene(given, **opening)
        except PrithviError:
            if refused:
                raise refused[0] from None
            raise
        rows, columns = slice(0, scene.sizes["y"]), slice(0, scene.sizes["x"])
        if inputs.get("bbox"):
            rows, columns = Area.box(*inputs["bbox"]).window(scene)
        pixels = (rows.stop - rows.start) * (columns.stop - columns.start) * scene.sizes["time"]
        if pixels > self.settings["max_pixels"]:
            raise RefusedError(
                f"{pixels:,} pixels (times dates) are asked for, and this service takes {self.settings['max_pixels']:,}"
                ": ask for a smaller box (bbox), or for fewer dates.",
                413, "TooLarge",
            )  # fmt: skip
        # Files name what they were made of: by the client's words, and not by paths of this machine.
        scene.attrs["source"] = ", ".join(map(self.places.shown, inputs["scene"]))
        return scene, opening

    def _items(self, sources: Sequence[str]) -> tuple[list[Any], list[RefusedError]]:
        """STAC items with those assets alone that may be read, and why others may not; none where these are files."""
        from prithvi.scenes.stac_items import read_stac

        if not all(_ITEM.search(source.partition("?")[0]) and not Path(source).is_dir() for source in sources):
            return [], []
        items, refused = read_stac(list(sources)), []
        for item in items:
            for name, asset in list(item.assets.items()):
                try:
                    asset.href = self.places.allowed(asset.get_absolute_href() or asset.href)
                except RefusedError as error:
                    refused.append(error)
                    del item.assets[name]
        return items, refused

    def progress(self, done: int, whole: int) -> None:
        """Told to the service."""
        self.say(progress=100 * done / max(whole, 1))

    def map(self, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """A map and what lies beside it."""
        from prithvi.contract import check_mappable
        from prithvi.modelio.model_files import check_size, requirements_of
        from prithvi.products.jobs import jobs_of
        from prithvi.products.products import Products
        from prithvi.scenes import Area, conform

        inputs, needs = request["inputs"], requirements_of(request["model"])
        scene, _ = self.opened(request)
        if needs is not None:  # what can be refused is, before torch is imported
            check_mappable(needs.task)
            check_size(needs, scene)
            conform(scene, needs.contract, inputs.get("accept", ()))
        form = inputs.get("polygons", "parquet")
        polygons = None if form == "none" or (needs is not None and not needs.classes) else form
        products = Products(bool(inputs.get("confidence")), None, polygons, 0.0, 0.0, None, True, True, False)
        path = folder / Path(jobs_of(inputs["scene"], folder, together=True)[0].path).name

        from prithvi.mapping import map_scene
        from prithvi.mapping.batch import opened

        made = map_scene(
            replace(opened(request["model"]), folder=""), scene, path, products=products,
            accept=inputs.get("accept", ()),
            area=Area.box(*inputs["bbox"]) if inputs.get("bbox") else None, resume=request["resume"],
            device=self.settings["device"], engine=self.settings["engine"], batch_size=self.settings["batch_size"],
            command=f"prithvi serve {request['process']}", progress=self.progress,
        )  # fmt: skip
        item = path.with_suffix(".json")
        return {
            "map": path.name,
            **({"item": item.name} if item.is_file() else {}),
            **{name: file.name for file in made.files for end, name in BESIDE.items() if file.name.endswith(end)},
            "summary": {
                "pixels": made.pixels, "without_data": made.without_data,
                "notes": [self.plain(note, folder) for note in made.notes],
            },
        }  # fmt: skip

    def embed(self, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Embeddings as one file."""
        from prithvi.products.jobs import jobs_of

        inputs = request["inputs"]
        scene, _ = self.opened(request)
        path = folder / Path(jobs_of(inputs["scene"], folder, together=True)[0].path).name

        from prithvi.mapping import embed_scene

        embed_scene(
            request["model"], scene, path, pooled=bool(inputs.get("pooled")), device=self.settings["device"],
            accept=inputs.get("accept", ()), batch_size=self.settings["batch_size"],
            command=f"prithvi serve {request['process']}", progress=self.progress,
        )  # fmt: skip
        return {
            "embeddings": path.name,
            "summary": {"layer": -1, "each": "window" if inputs.get("pooled") else "patch"},
        }

    def fill(self, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """A file for each date, and what was filled."""
        inputs = request["inputs"]
        scene, opening = self.opened(request)
        sources = [self.places.allowed(source) for source in inputs["scene"]]

        from prithvi.mapping.mask_sources import clear_of_sources, masks_beside
        from prithvi.mapping.series_files import fill_series
        from prithvi.scenes import open_scene

        masks: list[Any] = [self.places.allowed(mask) for mask in inputs.get("clouds") or ()]
        # A STAC item may name a mask anywhere; and which date an item has is asked of what was checked, since
        # `clear_of_sources` would open it with all of its assets.
        masks = masks or masks_beside(sources, scene.sizes["time"])
        masks = [self.places.allowed(str(mask)) if mask is not None else None for mask in masks]
        items = self._items(sources)[0]
        if masks and opening["dates"] is None and len(items) == len(sources):
            opening = {**opening, "dates": [open_scene(item, **opening)["time"].values[0] for item in items]}
        clear = clear_of_sources(sources, scene, masks, inputs.get("clouds_are"), opening)
        made = fill_series(
            scene, folder, request["model"], clear=clear, uncertainty=bool(inputs.get("uncertainty", True)),
            resume=request["resume"], device=self.settings["device"], inputs=inputs["scene"],
            command=f"prithvi serve {request['process']}", progress=self.progress,
        )  # fmt: skip
        return {
            "dates": sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")),
            "summary": {
                "dates": [str(date) for date in made.dates],
                "pixels": {"observed": made.observed, "filled": made.filled, "empty": made.empty},
                "notes": [self.plain(note, folder) for note in made.notes],
            },
        }


if __name__ == "__main__":
    main()
