"""Where the files that ship with the package lie: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from prithvi.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def _shipped(folder: str) -> Path:
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
    path = _shipped("configs") / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in _shipped("configs").glob("*.yaml")]
        raise ConfigError(f"no configuration {name!r} is shipped: {nearest(name, known)}")
    return path
