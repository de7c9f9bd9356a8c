"""Standard JSON (RFC 8259), which cannot represent NaN and infinities: they become null."""

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
