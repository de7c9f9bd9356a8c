"""Maps a scene that a platform staged in, and leaves a folder that it stages out: what an application package runs.

python -m prithvi.service.staged MODEL FOLDER --output RESULT [options of prithvi map]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pystac

CATALOG = "catalog.json"


def sources(folder: Path) -> list[str]:
    """The items of the folder's catalog, or the folder itself where it has none."""
    if not (folder / CATALOG).is_file():
        return [str(folder)]
    items = pystac.Catalog.from_file(str(folder / CATALOG)).get_items(recursive=True)
    return [item.self_href for item in items]


def write_catalog(folder: Path) -> Path:
    """A catalog of the STAC items in a folder."""
    catalog = pystac.Catalog(id=folder.resolve().name, description="Maps made by prithvi.")
    for file in sorted(folder.glob("*.json")):
        catalog.add_link(pystac.Link("item", f"./{file.name}", pystac.MediaType.GEOJSON))
    path = folder / CATALOG
    catalog.save_object(include_self_link=False, dest_href=str(path))
    return path


def main() -> None:
    """Maps, and ends with the status of `prithvi map`."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given, options = parser.parse_known_args()
    found = sources(given.folder)
    if not found:
        sys.exit(f"{given.folder}/{CATALOG} has no item: stage a scene in.")
    command = [sys.executable, "-m", "prithvi", "map", given.model, *found, "-o", str(given.output)]
    done = subprocess.run([*command, *options], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    write_catalog(given.output)


if __name__ == "__main__":
    main()
