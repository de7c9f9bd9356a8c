"""Old module names of version 0.1, which can be imported until version 0.3, with a DeprecationWarning.

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
    "catalog.describe": "cli.data.stores",
    "catalog.fetching": "catalog.stac_catalog",
    "catalog.labelproducts": "chips.label_values",
    "catalog.places": "catalog.stac_catalog",
    "catalog.splits": "catalog.chip_lists",
    "catalog.stac": "catalog.stac_catalog",
    "chips.choosing": "chips.tile_sampling",
    "chips.cutting": "chips.tile_units",
    "chips.dates": "chips.date_plan",
    "chips.files": "chips.store_files",
    "chips.importing": "chips.recipes",
    "chips.labels": "chips.label_files",
    "chips.labelvalues": "chips.label_values",
    "chips.making": "chips.recipes",
    "chips.planning": "chips.date_plan",
    "chips.running": "parallel",
    "chips.staging": "chips.build",
    "chips.writing": "chips.store_files",
    "cli.data.build": "cli.data.stores",
    "cli.data.choose": "cli.data.granules",
    "cli.data.get": "cli.data.granules",
    "cli.data.search": "cli.data.granules",
    "cli.data.show": "cli.data.stores",
    "cli.data.verify": "cli.data.stores",
    "cli.words": "cli.options",
    "data.balance": "data.labelled",
    "data.sources": "data.labelled",
    "evaluation.covered": "evaluation.baseline_trials",
    "evaluation.matching": "evaluation.areas",
    "evaluation.pixels": "evaluation.baseline_trials",
    "evaluation.report": "evaluation.compare",
    "exported": "modelio.program",
    "fitted": "modelio.predictor",
    "hls.access": "scenes.remote",
    "hls.fmask": "hls.granules",
    "jsontext": "files",
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
    "mapping.memory": "cli.progress",
    "mapping.provenance": "products.provenance",
    "mapping.rasters": "mapping.cog",
    "mapping.scoring": "mapping.inference",
    "mapping.series": "mapping.series_files",
    "mapping.stac": "products.map_item",
    "mapping.strips": "mapping.sliding_window",
    "mapping.style": "products.products",
    "mapping.textfile": "files",
    "mapping.threads": "mapping.inference",
    "mapping.together": "mapping.window_filling",
    "mapping.vectorfiles": "products.vectorfiles",
    "mapping.vectors": "products.class_polygons",
    "mapping.vrt": "mapping.result_files",
    "mapping.zones": "products.zones",
    "metrics.gaps": "metrics.gap_metrics",
    "metrics.regression": "metrics.regression_metrics",
    "metrics.segmentation": "metrics.segmentation_metrics",
    "modelcard": "modelio.card",
    "modelfolder": "modelio",
    "modelitem": "modelio.item",
    "modelpush": "modelio.exchange",
    "models.filling": "models.interpolation",
    "modelsource": "modelio.loader",
    "plot.colors": "plot.drawing",
    "plot.composites": "plot.pictures",
    "plot.embeddings": "plot.result_plots",
    "plot.maps": "plot.result_plots",
    "plot.places": "plot.drawing",
    "programfile": "modelio.model_files",
    "report.maps": "report.result_sheets",
    "report.series": "report.result_sheets",
    "scenes.access": "scenes.remote",
    "scenes.arrays": "scenes.dataarrays",
    "scenes.dates": "scenes.names",
    "scenes.footprint": "scenes.polygons",
    "scenes.georeference": "scenes.array_grids",
    "scenes.headers": "scenes.raster_files",
    "scenes.items": "scenes.stac_items",
    "scenes.labels": "scenes.band_naming",
    "scenes.moments": "scenes.names",
    "scenes.orders": "scenes.band_order",
    "scenes.refused": "scenes.opening",
    "scenes.scales": "scenes.info",
    "scenes.stac": "scenes.stac_items",
    "tasks.adapting": "tasks.lora",
    "tasks.gaps": "tasks.gap_fill_task",
    "tasks.optimising": "tasks.optimizer",
    "terratorch_files": "modelio.terratorch_checkpoint",
    "terratorch_yaml": "modelio.terratorch_config",
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
        warnings.warn(f"{spec.name} is now {new}; the old name goes with version 0.3.", DeprecationWarning, 2)
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
