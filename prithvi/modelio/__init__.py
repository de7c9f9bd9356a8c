"""Models on disk: opened from any source, written as a folder or a program, exchanged with the hub and TerraTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prithvi.modelio.folder import open_folder, save, save_pretrained
    from prithvi.modelio.loader import contract_of, load, load_weights, record_of
    from prithvi.modelio.predictor import Predictor
    from prithvi.modelio.program import export

_PLACES = {
    "Predictor": "predictor",
    "contract_of": "loader",
    "export": "program",
    "load": "loader",
    "load_weights": "loader",
    "open_folder": "folder",
    "record_of": "loader",
    "save": "folder",
    "save_pretrained": "folder",
}
"""Name to module: imported when it is first used, so that `requirements` does not wait for torch."""

__all__ = [
    "Predictor", "contract_of", "export", "load", "load_weights", "open_folder", "record_of", "save", "save_pretrained",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
