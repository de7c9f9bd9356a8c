"""Zips the QGIS plugin as QGIS installs it: `python qgis/zip_plugin.py FOLDER` writes FOLDER/prithvi_qgis.zip."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PLUGIN = HERE / "prithvi_qgis"


def zip_plugin(folder: Path) -> Path:
    """One folder in it, named as the plugin, with the licence; the same bytes from the same files."""
    files = {file.relative_to(HERE).as_posix(): file for file in PLUGIN.iterdir() if file.is_file()}
    files[f"{PLUGIN.name}/LICENSE"] = HERE.parent / "LICENSE"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{PLUGIN.name}.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return made


if __name__ == "__main__":
    print(zip_plugin(Path(sys.argv[1])))  # noqa: T201
