"""What ships with the package, and public datasets out of its STAC catalog: described, and fetched from the hub.

Each dataset is a collection in data_catalog/; what STAC has no field for stands under `prithvi:layout` (files and
pixels), `prithvi:hub` (a repository on the Hugging Face hub) and `prithvi:source` (an archive elsewhere).
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from prithvi import hub
from prithvi.bands import common_name
from prithvi.catalog.chip_lists import Split
from prithvi.catalog.datasets import DatasetLayout
from prithvi.catalog.sensors import sensor as sensor_named
from prithvi.contract import Category, Contract
from prithvi.errors import ConfigError, DatasetError, nearest, one_of

_PACKAGE = Path(__file__).resolve().parents[1]
_ARCHIVES = (".tar.gz", ".tgz", ".tar")


def _shipped(folder: str) -> Path:
    """A folder that ships with the package: beside it in a checkout, inside it in a wheel."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def data_catalog() -> Path:
    """The folder of the STAC catalog."""
    return _shipped("data_catalog")


def config_path(name: str) -> Path:
    """The shipped configuration `name` (without .yaml).

    Raises:
        ConfigError: there is none (with the nearest names).

    """
    known = {file.stem: file for file in _shipped("configs").glob("*.yaml")}
    if name not in known:
        raise ConfigError(f"no configuration {name!r} is shipped: {nearest(name, known)}")
    return known[name]


def dataset_names() -> list[str]:
    """The datasets in the catalog."""
    return sorted(path.parent.name for path in data_catalog().glob("*/collection.json"))


def collection(name: str) -> dict[str, Any]:
    """A dataset's STAC collection, as JSON holds it.

    Raises:
        DatasetError: there is none (with the nearest names).

    """
    one_of(name, dataset_names(), "there is no dataset", DatasetError)
    path = data_catalog() / name / "collection.json"
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plain


@cache
def dataset(name: str) -> DatasetLayout:
    """A dataset by name.

    Raises:
        DatasetError: there is none (with the nearest names).

    """
    plain = collection(name)
    layout = plain["prithvi:layout"]
    classes = plain["item_assets"].get("label", {}).get("classification:classes", [])
    product = sensor_named(layout["sensor"])
    bands = layout.get("bands") or [common_name(identifier, product.product) for identifier in product.stack]
    known = [entry for entry in classes if not entry.get("nodata")]
    return DatasetLayout(
        name=name,
        classes=tuple(Category(entry["value"], entry["name"], entry["color_hint"]) for entry in known),
        ignore=tuple(entry["value"] for entry in classes if entry.get("nodata")),
        contract=Contract.from_dict(layout["contract"]),
        splits=_splits(plain, data_catalog() / name),
        bands=tuple(bands),
        gain=layout.get("gain", product.gain),
        bias=0.0 if "gain" in layout else product.bias,
        nodata=tuple(layout.get("nodata", ())),
        label=layout.get("label"),
        **{key: layout[key] for key in ("image", "sensor", "frames", "order", "dates") if key in layout},
    )


def _splits(plain: dict[str, Any], folder: Path) -> dict[str, Split]:
    own = plain["prithvi:layout"].get("splits", {})
    lists = {key: folder / asset["href"] for key, asset in plain.get("assets", {}).items() if "split" in asset["roles"]}
    found = {}
    for name in {**lists, **own}:
        given = {**own.get(name, {})}
        given["where"] = tuple((column, sign, str(value)) for column, sign, value in given.get("where", ()))
        found[name] = Split(lists.get(name), **given)
    return found


def fetch_dataset(name: str, folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetches and unpacks a dataset; what is unpacked already is not fetched again.

    Args:
        name: in the data catalog.
        folder: where it is unpacked; `data.root` of 'prithvi fit' afterwards.
        progress: called with the files done and their number in all.

    Returns:
        The folder.

    Raises:
        DatasetError: it is not on the hub (the message says where it is); or a file is no archive, or holds links or
            what would be unpacked outside of the folder.
        HubError: a file is not the one that the catalog knows; see `prithvi.hub.fetch`.

    """
    plain, folder = collection(name), Path(folder)
    where = plain.get("prithvi:hub")
    if where is None:
        source = plain.get("prithvi:source")
        elsewhere = f": fetch {', '.join(source['files'])} of {source['url']}" if source else ""
        raise DatasetError(f"{name} is not on the hub{elsewhere}.")
    for number, file in enumerate(where["files"], start=1):
        done = folder / f".{file}.done"
        if not done.is_file():
            sha256 = where.get("sha256", {}).get(file)
            fetched = hub.fetch(where["repo_id"], file, where["revision"], where["repo_type"], sha256)
            _place(fetched, file, folder)
            done.touch()
        if progress is not None:
            progress(number, len(where["files"]))
    return folder


def _place(path: Path, name: str, folder: Path) -> None:
    """Unpacks an archive, or copies a plain file; each file appears when it is whole, and no other is touched."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        if name.endswith(_ARCHIVES):
            with tarfile.open(path) as archive:
                _look_through(archive, path, work)
                archive.extractall(work, filter="data")
        else:
            shutil.copyfile(path, work / name)
        for entry in sorted(path for path in work.rglob("*") if not path.is_dir()):
            target = folder / entry.relative_to(work)  # beside what else lies there
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(entry, target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetError(f"{path} cannot be unpacked into {folder} ({error}).") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _look_through(archive: tarfile.TarFile, path: Path, work: Path) -> None:
    """Refuses an archive with anything but files and folders inside of it, before any of it is written."""
    whole = 0
    for member in archive:
        whole += member.size
        if not (member.isfile() or member.isdir()):
            raise DatasetError(f"{path} cannot be unpacked: {member.name!r} is a link or a device; it was left alone.")
        tarfile.data_filter(member, str(work))  # refuses what would lie outside
    free = shutil.disk_usage(work).free
    if whole > free:
        raise DatasetError(f"{path} holds {whole:,} bytes unpacked, and {free:,} are free in {work.parent}.")
