"""Small text files beside a map."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from prithvi.errors import OutputError


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text; the file appears under its name when it is whole.

    Raises:
        OutputError: it cannot be written.

    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    return path
