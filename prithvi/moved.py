"""Modules under the names that they had in 0.1: they still import, with a DeprecationWarning, for one release.

A finder is asked for such a name only after Python has not found it elsewhere, so that nothing is slower by it. The old
name gives the new module itself: classes stay the same under both, in pickles and in the class paths of YAML files.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "catalog.describe": "cli.data.show",
    "catalog.labelproducts": "catalog.label_products",
    "catalog.places": "catalog.shipped",
    "catalog.splits": "catalog.chip_lists",
    "catalog.stac": "catalog.stac_catalog",
    "chips.choosing": "chips.tile_sampling",
    "chips.cutting": "chips.tile_units",
    "chips.dates": "chips.date_plan",
    "chips.files": "chips.store_files",
    "chips.importing": "chips.dataset_units",
    "chips.labels": "chips.label_files",
    "chips.labelvalues": "chips.label_values",
    "chips.making": "chips.recipes",
    "chips.planning": "chips.date_plan",
    "chips.running": "parallel",
    "chips.staging": "chips.build",
    "chips.writing": "chips.writer",
    "data.gaps": "data.cloud_gaps",
    "cli.data.date_options": "cli.options",
    "cli.precheck": "cli.opening",
    "cli.words": "cli.opening",
    "evaluation.covered": "evaluation.baseline_trials",
    "evaluation.pixels": "evaluation.baseline_trials",
    "exported": "modelio.program",
    "fitted": "modelio.predictor",
    "hls.access": "scenes.access",
    "mapping.answers": "mapping.class_maps",
    "mapping.arrays": "mapping.class_maps",
    "mapping.beside": "products.products",
    "mapping.blend": "mapping.sliding_window",
    "mapping.classmap": "products.classmap",
    "mapping.ellipsoid": "products.ellipsoid",
    "mapping.embedder": "mapping.embeddings",
    "mapping.embedding": "mapping.embeddings",
    "mapping.filled": "mapping.gap_filling",
    "mapping.filledrows": "mapping.window_filling",
    "mapping.gaps": "mapping.fillers",
    "mapping.lazily": "mapping.engine",
    "mapping.many": "mapping.batch",
    "mapping.maps": "mapping.class_maps",
    "mapping.provenance": "products.provenance",
    "mapping.rasters": "mapping.cog",
    "mapping.scoring": "mapping.inference",
    "mapping.series": "mapping.gap_filling",
    "mapping.stac": "products.map_item",
    "mapping.strips": "mapping.sliding_window",
    "mapping.style": "products.qml",
    "mapping.threads": "mapping.inference",
    "mapping.together": "mapping.temporal_context",
    "mapping.vectorfiles": "products.vectorfiles",
    "mapping.vectors": "products.class_polygons",
    "mapping.zones": "products.zones",
    "mapping.textfile": "files",
    "metrics.gaps": "metrics.gap_metrics",
    "metrics.regression": "metrics.regression_metrics",
    "metrics.segmentation": "metrics.segmentation_metrics",
    "modelcard": "modelio.card",
    "modelfolder": "modelio",
    "modelitem": "modelio.item",
    "modelpush": "modelio.exchange",
    "models.filling": "models.interpolation",
    "modelsource": "modelio.source",
    "plot.embeddings": "plot.embedding_plots",
    "plot.maps": "plot.class_plots",
    "programfile": "modelio.programfile",
    "report.maps": "report.map_sheet",
    "report.series": "report.series_sheet",
    "tasks.adapting": "tasks.lora",
    "tasks.gaps": "tasks.gap_fill_task",
    "tasks.optimising": "tasks.optimizer",
    "terratorch_files": "modelio.terratorch_checkpoint",
    "terratorch_yaml": "modelio.terratorch_config",
    "scenes.arrays": "scenes.dataarrays",
    "scenes.dates": "scenes.acquisition_dates",
    "scenes.georeference": "scenes.dataarrays",
    "scenes.items": "scenes.stac_layout",
    "scenes.labels": "scenes.band_naming",
    "scenes.moments": "scenes.acquisition_dates",
    "scenes.orders": "scenes.band_order",
    "scenes.refused": "scenes.opening",
    "scenes.stac": "scenes.stac_items",
}
"""Old name to new name, both below `prithvi`."""


class _Finder(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old name; None of any other."""
        return ModuleSpec(name, self) if name.removeprefix("prithvi.") in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name, which is what the old name stands for."""
        new = f"prithvi.{MOVED[spec.name.removeprefix('prithvi.')]}"
        warnings.warn(f"{spec.name} is now {new}; the old name goes with the next release.", DeprecationWarning, 2)
        module = importlib.import_module(new)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own spec back: it has been run under its new name already."""
        module.__spec__ = self.specs.pop(module.__spec__.name) if module.__spec__ else None


def install() -> None:
    """Lets old names be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
