"""Any folder of GeoTIFFs and masks as a dataset, by what its owner says of it; nothing about it is guessed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prithvi.bands import check_names
from prithvi.catalog.chip_lists import Split
from prithvi.catalog.datasets import DatasetLayout, check_classes
from prithvi.catalog.sensors import sensor as sensor_named
from prithvi.contract import Category, Contract, Quantity
from prithvi.errors import ConfigError, DatasetError, one_of


def folder_layout(
    image: str,
    label: str | None = None,
    *,
    bands: Sequence[str],
    sensor: str,
    frames: int = 1,
    order: str | None = None,
    gain: float | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: Sequence[float] | float | None = None,
    classes: Sequence[Category] = (),
    ignore: Sequence[int] = (),
    quantity: Quantity | None = None,
    table: tuple[str, str, str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    lists: Mapping[str, str | Path] | None = None,
    split: str = "train",
    name: str = "folder",
) -> DatasetLayout:
    """Any folder of GeoTIFFs and masks as a dataset; nothing about it is guessed.

    Args:
        image: path of an image under the folder, `{id}` standing for the chip's name: `images/{id}.tif`.
        label: path of its mask, or of its raster of a quantity; None for images without. In both, `*` matches
            the rest of a name.
        bands: common names of the bands of one date, in the order of the file.
        sensor: key of `prithvi.catalog.SENSORS`: says level and scale.
        frames: dates in a file.
        order: `time-major` or `band-major`, if there are several dates.
        gain: the scale in other words: 1 / scale.
        scale: reflectance = (value + offset) / scale, as of `prithvi.open_scene`: counts more than what each band of a
            file says by its tags, and that more than what the sensor usually has.
        offset: added to every value before it is scaled (-1000 for Sentinel-2 archives since 2022); likewise.
        nodata: values of pixels without data, beside those that a file declares; None takes the sensor's own, where the
            scale is, too.
        classes: what the values of a mask mean, in the order of the model's outputs.
        ignore: values of a mask that say nothing.
        quantity: what the label rasters hold, where that is a number.
        table: CSV file, column of ids and column of classes, where a class belongs to a whole chip.
        mean: band means in reflectance x 10,000; None where the weights' own are to be taken.
        std: band standard deviations, likewise.
        lists: file of ids, one a line, of each part; None puts all existing chips into one.
        split: the part that all chips belong to, without lists.
        name: how to call it.

    Raises:
        DatasetError: several dates without an order, masks without classes, classes that `check_classes` refuses, a
            pattern without `{id}`, or a scale that is not above 0.
        BandError: a band that is none.

    """
    if frames < 1:
        raise DatasetError(f"a file holds at least one date; frames={frames} was given.")
    if frames > 1 and order not in ("time-major", "band-major"):
        raise DatasetError(
            f"files of {frames} dates of {len(bands)} bands: say order= time-major (all bands of the first date "
            "first) or band-major. Neither is guessed."
        )
    if (label is not None or table is not None) and not classes and quantity is None:
        raise DatasetError("masks were given and no classes: say what their values mean.")
    check_classes(classes, ignore, name)
    for pattern in (image, label):
        if pattern is not None and pattern.count("{id}") != 1:
            raise DatasetError(f"{pattern!r} does not say where the chip's name stands: write images/{{id}}.tif.")
        if pattern is not None and "*" in pattern and not lists:
            raise DatasetError(f"{pattern!r} leaves open which part is the chip's name: give lists of names.")
    product = sensor_named(sensor)
    names = check_names(bands)
    if (mean is None) != (std is None):
        raise DatasetError(f"{'std' if std is None else 'mean'} is missing: give both mean and std, or neither.")
    moments = tuple(mean or [0.0] * len(names)), tuple(std or [1.0] * len(names))
    contract = Contract(names, *moments, resolution=product.resolution, level=product.level)
    if gain is not None and scale is not None:
        raise DatasetError(f"gain {gain:g} and scale {scale:g} say the same thing twice: leave the gain out.")
    scale = 1 / gain if gain is not None else scale
    if scale is not None and not 0 < scale < float("inf"):
        raise DatasetError(f"a scale of {scale:g} was given; value = reflectance x scale needs one above 0.")
    own = scale is None
    factor = product.gain if scale is None else 1 / scale
    if nodata is None:
        nodata = (product.nodata,) if own else ()
    return DatasetLayout(
        name=name,
        image=image,
        label=label,
        sensor=sensor,
        classes=tuple(classes),
        ignore=tuple(ignore),
        contract=contract,
        splits={part: Split(list=Path(path)) for part, path in lists.items()} if lists else {split: Split()},
        bands=names,
        frames=frames,
        order=order,
        gain=factor,
        bias=offset * factor if offset is not None else product.bias if own else 0.0,
        user_scale_offset=(scale, offset),
        nodata=(nodata,) if isinstance(nodata, (int, float)) else tuple(nodata),
        quantity=quantity,
        table=table,
    )


def folder_of(plain: Mapping[str, Any], root: Path) -> DatasetLayout:
    """`folder_layout` from plain values, as a configuration file holds them; lists lie under the root.

    Raises:
        ConfigError: a key that it has not, or one that is missing.
        DatasetError: see `folder_layout`.

    """
    known = [name for name in inspect.signature(folder_layout).parameters if name not in ("split", "name")]
    for key in plain:
        one_of(key, known, "data.folder has no")
    missing = [key for key in ("image", "bands", "sensor") if key not in plain]
    if missing:
        raise ConfigError(f"data.folder lacks {', '.join(missing)}.")
    options: dict[str, Any] = dict(plain)
    quantity, table = options.get("quantity"), options.get("table")
    if "classes" in options:
        options["classes"] = [_category(entry) for entry in options["classes"]]
    if options.get("ignore") is not None and not quantity:
        options["ignore"] = [_whole(value, "data.folder.ignore") for value in options["ignore"]]
    if quantity is not None:
        if not _has_keys(quantity, {"name", "mean", "std"}, "unit"):
            raise ConfigError(f"data.folder.quantity has name, mean, std and, if wanted, unit; found {quantity!r}.")
        moments = {key: float(quantity[key]) for key in ("mean", "std")}
        options["quantity"] = Quantity(str(quantity["name"]), **moments, unit=str(quantity.get("unit", "")))
    if table is not None:
        if not isinstance(table, (list, tuple)) or len(table) != 3:
            raise ConfigError(f"data.folder.table is a CSV file, its columns of ids and of classes; found {table!r}.")
        options["table"] = tuple(map(str, table))
    if options.get("lists"):
        options["lists"] = {part: root / path for part, path in options["lists"].items()}
    return folder_layout(**options, name=root.name)


def _category(plain: Any) -> Category:
    if not _has_keys(plain, {"value", "name"}, "color"):
        raise ConfigError(f"data.folder.classes: each has value, name and, if wanted, color (RRGGBB); found {plain!r}.")
    value = _whole(plain["value"], "data.folder.classes")
    return Category(value, str(plain["name"]).strip(), str(plain.get("color", "")))


def _has_keys(plain: Any, needed: set[str], optional: str) -> bool:
    return isinstance(plain, Mapping) and needed <= set(plain) <= needed | {optional}


def _whole(plain: Any, where: str) -> int:
    """A label's value, which YAML may hold as 10, 10.0 or "10"; true and 1.5 are none."""
    try:
        value = int(plain)
    except (TypeError, ValueError, OverflowError):
        value = None
    if value is None or isinstance(plain, bool) or (isinstance(plain, float) and plain != value):
        raise ConfigError(f"{where}: a label's value is a whole number; found {plain!r}.")
    return value
