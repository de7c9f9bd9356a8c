"""The YAML that a model was trained with in TerraTorch: its bands, their statistics, its classes and its window."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prithvi.bands import check_names
from prithvi.contract import Contract
from prithvi.errors import BandError, CheckpointError, ConfigError, needs
from prithvi.files import read_yaml, table
from prithvi.process import settings_kept


class Given(NamedTuple):
    """What a user says of the input of a checkpoint whose files do not say it."""

    bands: Sequence[str] | None = None
    """Common names of the bands in the model's order."""
    mean: Sequence[float] | None = None
    """Band means, and below their standard deviations."""
    std: Sequence[float] | None = None
    scale: float | None = None
    """Reflectance times this is what mean and std are of; 10,000 if they are given without it."""


@dataclass(frozen=True)
class DataModule:
    """What one of TerraTorch's data modules does to the pixels; its MEANS and STDS are read where it is installed."""

    module: str = ""
    scale: float = 1.0
    """Reflectance times this is what MEANS and STDS are of."""
    level: str | None = None
    resolution: float | None = None
    classes: tuple[str, ...] = ()
    zero_reduced: bool = False
    """Whether its `reduce_zero_label` is on unless a configuration says otherwise."""

    def statistics(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean and std of each band, by common name; empty of a data module that is not known here."""
        if not self.module:
            return {}, {}
        with needs("a fine-tune of TerraTorch's", "terratorch"), settings_kept():
            module = importlib.import_module(f"terratorch.datamodules.{self.module}")
        means, stds = (
            {check_names([band])[0]: float(value) for band, value in table.items()}
            for table in (module.MEANS, module.STDS)
        )
        return means, stds


DATA_MODULES = {
    "Sen1Floods11NonGeoDataModule": DataModule("sen1floods11", 1.0, "TOA", 10.0, ("land", "water")),
    "FireScarsNonGeoDataModule": DataModule("fire_scars", 1.0, "SR", 30.0, ("not burned", "burned")),
    "MultiTemporalCropClassificationDataModule": DataModule(
        "multi_temporal_crop_classification", 10_000.0, "SR", 30.0,
        ("natural vegetation", "forest", "corn", "soybeans", "wetlands", "developed or barren", "open water",
         "winter wheat", "alfalfa", "fallow or idle cropland", "cotton", "sorghum", "other"), zero_reduced=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TerraTorchRun:
    """What a configuration says of the model and the data; all of it empty where there is none."""

    file: Path | None
    task: str
    """Class of the task, without its module."""
    task_options: Mapping[str, Any]
    data: str
    """Class of the data module, without its module."""
    data_options: Mapping[str, Any]

    @property
    def known(self) -> DataModule:
        """What is known of its data module."""
        return DATA_MODULES.get(self.data, DataModule())

    def contract(self, path: Path, backbone_bands: Any, given: Given) -> Contract:
        """Bands and statistics as the data module had them, or as they were given."""
        known, options, (bands, mean, std, scale) = self.known, self.data_options, given
        means, stds = known.statistics()
        named = bands or options.get("output_bands") or options.get("bands") or options.get("dataset_bands")
        try:
            names = check_names([str(name) for name in named or list(means) or backbone_bands or ()])
        except BandError as error:
            raise CheckpointError(f"{path}: {error} Pass bands= (common names in the model's order).") from error
        if mean is not None and std is not None:
            scale = 10_000.0 if scale is None else scale
        elif means:
            fresh = [name for name in names if name not in means]
            if fresh:
                raise CheckpointError(f"{path}: {self.data} has no mean of {', '.join(fresh)}: pass mean= and std=.")
            mean, std = [means[name] for name in names], [stds[name] for name in names]
            # Where one of these has a constant_scale, its files hold reflectance x 10,000.
            scale = known.scale * float(options.get("constant_scale", 1e-4)) * 10_000
        elif isinstance(options.get("means"), list) and isinstance(options.get("stds"), list):
            mean, std = [float(value) for value in options["means"]], [float(value) for value in options["stds"]]
            if scale is None:
                raise CheckpointError(
                    f"{path}: {self.file} says means ({mean[0]:g}, ...) and not of what: pass scale=10000 where they "
                    "are of reflectance x 10,000, scale=1 where they are of reflectance."
                )
        else:
            found = "there is no YAML beside it" if self.file is None else f"{self.file} has the data {self.data!r}"
            raise CheckpointError(
                f"{path}: {found}, so the means and stds of its bands are not known: pass config= (the YAML it was "
                "trained with), or mean= and std= (reflectance x 10,000)."
            )
        resized = any("Resize" in name for name, _ in self.transforms())
        resolution = None if resized else known.resolution
        return Contract(names, tuple(mean), tuple(std), scale, level=known.level, resolution=resolution)

    def transforms(self) -> list[tuple[str, dict[str, Any]]]:
        """Class and options of what the training images went through."""
        steps = self.data_options.get("train_transform")
        if isinstance(steps, Mapping):  # a Compose of a list, the only form that TerraTorch before 1.2.4 takes
            where = f"{self.file}: train_transform.init_args"
            steps = table(where, steps.get("init_args")).get("transforms")
        return [
            (str(step.get("class_path", "")), dict(step.get("init_args") or {}))
            for step in (steps if isinstance(steps, list) else [])
            if isinstance(step, Mapping)
        ]

    def side(self, otherwise: int) -> int:
        """Pixels along the longer side of the training images, where a transform says it."""
        for _, options in self.transforms():
            sizes = [options[key] for key in ("height", "width") if isinstance(options.get(key), int)]
            otherwise = max(sizes, default=otherwise)
        return otherwise

    def classes(self, number: int) -> list[str]:
        """Names of so many classes: the data module's, or numbers."""
        named = len(self.known.classes) == number
        return list(self.known.classes) if named else [f"class {index}" for index in range(number)]

    def values(self, number: int) -> list[int]:
        """The label files' values of so many classes: from 1 on where TerraTorch took 1 from each (reduce_zero_label).

        Without a configuration nobody knows, and they are counted from 0 as the model's outputs are.
        """
        first = int(self.data_options.get("reduce_zero_label", self.known.zero_reduced) is True)
        return list(range(first, first + number))


def find_run(path: Path, config: str | Path | None) -> TerraTorchRun:
    """The configuration of a checkpoint: the one named, the one beside it, or above Lightning's `checkpoints` folder.

    Raises:
        ConfigError: it is not there, cannot be read, or there are several.

    """
    file = Path(config) if config is not None else _beside(path)
    told = read_yaml(file) if file is not None else {}
    return TerraTorchRun(file, *_section(file, told, "model"), *_section(file, told, "data"))


def _beside(path: Path) -> Path | None:
    above = [path.parent.parent] if path.parent.name == "checkpoints" else []
    for folder in (path.parent, *above):
        found = [file for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))) if _is_of_a_run(file)]
        named = [file for file in found if file.name == "config.yaml"] or found
        if len(named) > 1:
            names = ", ".join(file.name for file in named)
            raise ConfigError(f"{folder} holds several configurations ({names}): name one of them with config=.")
        if named:
            return named[0]
    return None


def _is_of_a_run(file: Path) -> bool:
    with contextlib.suppress(ConfigError):
        return {"model", "data"} <= set(read_yaml(file)) and not file.stem.endswith("_deploy")
    return False


def _section(file: Path | None, told: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """The class of a part of the configuration, without its module, and its options."""
    part = table(f"{file}: {name}", told.get(name))
    return class_name(part.get("class_path")), table(f"{file}: {name}.init_args", part.get("init_args"))


def class_name(path: Any) -> str:
    """The last word of a class path."""
    return str(path or "").rsplit(".", 1)[-1]
