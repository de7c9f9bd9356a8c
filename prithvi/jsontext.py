"""JSON that every reader takes, and tables in files of JSON and YAML.

JSON has no numbers for NaN and the infinities, so that these become null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prithvi.errors import ConfigError


def dumps(plain: Any, indent: int | None = None) -> str:
    """Serialises plain values as JSON, with null for numbers that are not finite."""
    return json.dumps(finite(plain), indent=indent, allow_nan=False)


def finite(plain: Any) -> Any:
    """Plain values with None for numbers that are not finite."""
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if isinstance(plain, Mapping):
        return {key: finite(value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [finite(value) for value in plain]
    return plain


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that contains an object.

    Raises:
        ConfigError: the file is missing, is not JSON, or contains something else.

    """
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no {path.name}.")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} holds a {type(plain).__name__}, not a table.")
    return plain


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a table of settings; an empty file holds none.

    Raises:
        ConfigError: it cannot be read or holds something else.

    """
    import yaml

    try:
        plain = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ConfigError(f"{path} is not YAML{line}: {getattr(error, 'problem', error)}.") from error
    return table(str(path), plain)


def table(where: str, part: Any) -> dict[str, Any]:
    """A table of settings by name, empty where there is none.

    Raises:
        ConfigError: it is something else.

    """
    if part is None:
        return {}
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        raise ConfigError(f"{where} must be a table of settings; it is {part!r}.")
    return part
