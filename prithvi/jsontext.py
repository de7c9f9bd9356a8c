"""JSON that every reader takes: it has no numbers for NaN and the infinities, so that these become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prithvi.errors import ConfigError


def dumps(plain: Any, indent: int | None = None) -> str:
    """Plain values as JSON (RFC 8259), null where a number is not finite."""
    return json.dumps(finite(plain), indent=indent, allow_nan=False)


def finite(plain: Any) -> Any:
    """The same values, None where a number is not finite."""
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if isinstance(plain, Mapping):
        return {key: finite(value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [finite(value) for value in plain]
    return plain


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds a table.

    Raises:
        ConfigError: it is not there or holds something else.

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
