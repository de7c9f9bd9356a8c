"""Old module names of version 0.1, which can be imported for one more release, with a DeprecationWarning.

The finder is the last one, so Python asks it only for names that no other finder knows, and other imports are not
slower. The old name is an alias of the new module itself, so classes are identical under both names, in pickles and in
class paths of YAML files.
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
    "mapping.clear_sky": "mapping.masks",
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
    "mapping.style": "products.products",
    "mapping.threads": "mapping.inference",
    "mapping.temporal_context": "mapping.window_filling",
    "mapping.together": "mapping.window_filling",
    "mapping.vectorfiles": "products.vectorfiles",
    "mapping.vectors": "products.class_polygons",
    "mapping.vrt": "mapping.result_files",
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
    "products.qml": "products.products",
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
"""New name of each moved module by its old name, both relative to `prithvi`."""


class _Finder(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old name; None for any other name."""
        return ModuleSpec(name, self) if name.removeprefix("prithvi.") in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Imports and returns the module under its new name."""
        new = f"prithvi.{MOVED[spec.name.removeprefix('prithvi.')]}"
        warnings.warn(f"{spec.name} is now {new}; the old name goes with the next release.", DeprecationWarning, 2)
        module = importlib.import_module(new)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restores the module's own spec, which importlib has replaced; the module was executed before."""
        module.__spec__ = self.specs.pop(module.__spec__.name) if module.__spec__ else None


def install() -> None:
    """Installs the finder for old names, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
