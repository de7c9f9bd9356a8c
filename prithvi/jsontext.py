"""JSON that every reader takes: it has no numbers for NaN and the infinities, so that these become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


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
