"""Models on disk: opened from any source, written as a folder or a program, exchanged with the hub and TerraTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prithvi.modelio.folder import open_folder, save, save_pretrained
    from prithvi.modelio.loader import contract_of, load, load_weights, record_of
    from prithvi.modelio.predictor import Predictor
    from prithvi.modelio.program import export

_NAMES = {
    "folder": ("open_folder", "save", "save_pretrained"),
    "loader": ("contract_of", "load", "load_weights", "record_of"),
    "predictor": ("Predictor",),
    "program": ("export",),
}
"""Names by module, which is imported when one is first used, so that `model_files` does not wait for torch."""

__all__ = [
    "Predictor", "contract_of", "export", "load", "load_weights", "open_folder", "record_of", "save", "save_pretrained",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
