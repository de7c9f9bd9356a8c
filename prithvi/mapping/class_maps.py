"""`prithvi.map` and `prithvi.map_scene`: the class of every pixel of a scene, or a quantity, as arrays and as files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from prithvi import windows
from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError
from prithvi.files import refuse_overwrite
from prithvi.mapping.cog import RasterWriter, check_geotiff, count_values, kept_facts, left_out_of
from prithvi.mapping.engine import Arrays, Part, Progress, Target, as_dataset, blank, placed, write
from prithvi.mapping.engine_choice import Asked
from prithvi.mapping.inference import Model, mappable, mappable_module, scoring
from prithvi.mapping.result_files import NODATA, class_flags, map_rasters
from prithvi.mapping.score_values import compared_in, values_of
from prithvi.mapping.sliding_window import rows_of
from prithvi.modelio.model_files import check_size
from prithvi.modelio.predictor import ClassEntry, Predictor
from prithvi.models import PrithviMAE
from prithvi.products.products import Products, left_beside, write_products
from prithvi.products.provenance import ENGINE_TAGS, Provenance, can_resume, checksum, identity
from prithvi.scenes import conform
from prithvi.scenes.area import Area
from prithvi.scenes.conform import units_of
from prithvi.scenes.file_states import states_of_vectors


def map(
    scene: xr.DataArray,
    model: Model | torch.nn.Module,
    *,
    contract: Contract | None = None,
    classes: Sequence[str | ClassEntry] = (),
    quantity: Quantity | None = None,
    window: int | None = None,
    stride: int | None = None,
    overlap: float | None = None,
    area: Area | None = None,
    clear: xr.DataArray | None = None,
    probabilities: bool = False,
    disagreement: bool = False,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    engine: str = "torch",
    precision: str | None = None,
    accept: Sequence[str] = (),
) -> xr.Dataset:
    """A map as an array with its place.

    Args:
        scene: what `prithvi.open_scene` gives. Where it is lazy the answer is, and is computed by rows when asked for;
            at once only a sample of its values is read, to see that they are what the model expects.
        model: a model folder, an exported program, what `prithvi.load` gives for one; or any torch module, which then
            needs `contract` and `classes` or `quantity` (see `prithvi.mapping.mappable_module`).
        contract: what a plain module expects of its input.
        classes: of a plain module.
        quantity: of a plain module.
        window: side of the squares that it is run on, in pixels; default the model's own, 224 of a plain module.
        stride: pixels between windows.
        overlap: the same as the share of a window that neighbours have in common; default a quarter, and a half with
            a disagreement.
        area: map this part only.
        clear: (time, y, x) True where clear, such as what `prithvi.mapping.clear_of` makes of cloud masks. What is
            clear on no date is left out: no data. The model sees the scene as it is, so that all else stays the same.
        probabilities: give those of every class, too.
        disagreement: give how far overlapping windows differ, too; see `Products.disagreement`.
        batch_size: windows predicted at once; default see `prithvi.windows.at_once`.
        device: torch device; default a GPU where there is one.
        engine: what runs the model: `torch`, `openvino` or `auto`; see `prithvi.mapping.engine_choice`.
        precision: `float32`, `bfloat16` or `auto`; default float32 on a CPU and bfloat16 on a GPU.
        accept: see `prithvi.scenes.conform`.

    Returns:
        `class` (y, x) uint8, 255 where there is no data; `confidence` (y, x) and on request `probability` (category, y,
        x), float32 with NaN; of a quantity `value` (y, x) float32; on request `disagreement` (y, x) float32.
        `.prithvi.to_cog(...)` and others write it.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model, or the masks not the scene.
        ConfigError: `disagreement` of windows that do not overlap; an engine or a precision that is not here.
        ModelError: OpenVINO cannot run the model, and is asked to.

    Warns:
        UserWarning: how `auto` has decided. Also where pixels of an array in memory are treated as nodata because they
            cannot be reflectance; the attribute PRITHVI_LEFT_OUT says it too. Those of a lazy one are as well,
            uncounted.

    """
    if isinstance(model, torch.nn.Module) and not isinstance(model, PrithviMAE):
        if contract is None:
            raise ConfigError(
                "a plain module does not say what it expects of its input: give contract=prithvi.Contract(bands, mean, "
                "std, ...), and classes= or quantity=."
            )
        side, frames = window or 224, scene.sizes["time"]
        found = mappable_module(model, contract, classes=classes, quantity=quantity, window=side, frames=frames)
    elif contract is not None or classes or quantity is not None:
        raise ConfigError("contract=, classes= and quantity= are for plain torch modules; this model has its own.")
    else:
        found = mappable(model)
    asked = Asked(engine, precision, device)
    check_size(found, scene)
    scene = conform(scene, found.contract, accept)
    side = found.window if window is None else window
    target = _target(scene, side, stride, overlap, area, disagreement, clear)
    batch_size = batch_size or windows.at_once(side)
    choice = asked.decide(found, target, batch_size)
    for note in choice.notes:
        warnings.warn(note, stacklevel=2)
    origin = Provenance.of(found, scene, "prithvi.map").run_by(choice.facts(device))
    found = choice.applied(found, target, batch_size, device)
    run = MapRun(found, origin, batch_size, device, probabilities=probabilities, disagreement=disagreement)
    return as_dataset(run, target)


@dataclass(frozen=True)
class MapResult:
    """A written map."""

    path: Path
    pixels: dict[str, int]
    """Class name to number of pixels; of a quantity, its name to the pixels that have a value."""
    without_data: int
    """Pixels of the map without data."""
    files: tuple[Path, ...] = ()
    """All that was written."""
    notes: tuple[str, ...] = ()
    """Which pixels were treated as nodata because they cannot be reflectance; what could not be made, and why."""


def map_scene(
    model: Model,
    scene: xr.DataArray,
    path: str | Path,
    *,
    products: Products | None = None,
    area: Area | None = None,
    clear: xr.DataArray | None = None,
    stride: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    compile: bool = False,
    engine: str = "torch",
    precision: str | None = None,
    accept: Sequence[str] = (),
    resume: bool = False,
    zarr_format: int = 2,
    command: str = "prithvi.map_scene",
    progress: Progress | None = None,
) -> MapResult:
    """Writes the most likely class of every pixel, or a quantity, as a Cloud-Optimized GeoTIFF.

    Args:
        model: a model folder or exported program, or what `prithvi.load` gives for one.
        scene: what `prithvi.open_scene` gives.
        path: the file to write; it appears when it is whole, and an older one stays until then. With the suffix `.zarr`
            it is a Zarr store of what `prithvi.map` gives.
        products: what to write beside it; default nothing. A store has confidence, probabilities (float32) and
            disagreement in it, and nothing beside it.
        area: map this part only; the answers there are those of the whole map but for their last digits, as other
            windows are predicted together. None maps everything.
        clear: where the scene is clear, see `prithvi.map`; `attrs["masks"]` is told in the result's notes.
        stride: pixels between windows.
        overlap: the same as the share of a window that neighbours have in common; default a quarter, and a half with
            a disagreement.
        batch_size: windows predicted at once; default see `prithvi.windows.at_once`.
        device: torch device; default a GPU where there is one.
        compile: see `prithvi.mapping.inference.scoring`.
        engine: what runs the model: `torch`, `openvino` or `auto`; see `prithvi.mapping.engine_choice`.
        precision: `float32`, `bfloat16` or `auto`; default float32 on a CPU and bfloat16 on a GPU. What `auto` decides
            holds for the run, and for those that resume it.
        accept: see `prithvi.scenes.conform`.
        resume: keep the rows that an interrupted run with the same inputs and options has finished. Not of a lazy scene
            that was calculated (`scene.where(...)`), which cannot be told from another.
        zarr_format: of a store; see `prithvi.mapping.zarrfile.FORMATS`.
        command: written to the files as the command that made them.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model, or the masks not the scene; nothing is
            written.
        ConfigError: `resume` of a store, or products beside it; `resume` of a lazy scene that was calculated, or by
            another engine or in another precision than the finished rows; a disagreement of windows that do not
            overlap; an engine or a precision that is not here.
        ModelError: OpenVINO cannot run the model, and is asked to.
        OutputError: a file cannot be written. The finished rows are kept.

    """
    path, asked, products = Path(path), Asked(engine, precision, device, compile), products or Products()
    as_store = path.suffix.lower() == ".zarr"
    if as_store:
        _refuse_beside(path, products, resume, zarr_format)
    else:
        check_geotiff(path)
    model = mappable(model)
    check_size(model, scene)
    products.check(model, scene)
    scene = conform(scene, model.contract, accept)
    target = _target(scene, model.window, stride, overlap, area, products.disagreement, clear)
    origin, known, inputs = Provenance.of(model, scene, command), can_resume(scene, resume), identity(scene)
    batch_size, zones = batch_size or windows.at_once(model.window), str(products.zones or "")
    # What the rows depend on: an interrupted run is resumed only if all of it is the same.
    key = {
        "model": model.facts(),
        "input": inputs,
        "rows": target.part.plan.rows,
        "columns": target.part.plan.columns,
        "area": [area.crs.to_wkt(), *(shape.wkt for shape in area.polygons)] if area is not None else [],
        "batch": batch_size,
        "compile": compile,
        "device": str(device),
        "products": str(products),
        "zones": states_of_vectors(zones),
        "software": origin.software,
        **({"clear": checksum(clear)} if clear is not None else {}),
    }
    sidecars = () if as_store else products.files(path, model, "time" in scene.coords)
    refuse_overwrite((path, *sidecars), [*inputs["states"], zones])
    kept, interrupted = kept_facts(path, key, ENGINE_TAGS) if resume else (None, False)
    choice = asked.taken_over(kept, interrupted, path) or asked.decide(model, target, batch_size)
    added = choice.facts(device)
    key, origin, module = {**key, **added}, origin.run_by(added), choice.applied(model, target, batch_size, device)
    run = MapRun(
        module, origin, batch_size, device, compile, products.needs_confidence, products.probabilities is not None,
        products.disagreement,
    )  # fmt: skip
    notes = (*(clear.attrs.get("masks", ()) if clear is not None else ()), *choice.notes)
    if as_store:
        from prithvi.mapping.zarrfile import counts_of, zarr_writer  # of zarr GeoTIFFs know nothing

        with zarr_writer(path, run.outputs(target), zarr_format, pyramid=True) as store:
            missing = write(run, target, store, progress).sentence(*units_of(scene, model.contract))
            store.tag(replace(origin, left_out=missing).tags())
            store.publish()
        counts = counts_of(path / ("class" if model.classes else "value"))
        return _result(model, path, counts, (path,), ((missing,) if missing else ()) + notes)
    wanted = products.needs_confidence, products.probabilities, products.disagreement
    rasters = map_rasters(run.outputs(target), path, *wanted)
    # The rasters and all that is made of them appear under their names together, when the last of them is whole.
    with RasterWriter(path.parent, target.grid, rasters, key if known else None, resume, added) as writer:
        if not (writer.made and all(file.is_file() for file in sidecars)):
            tally = write(run, target, writer, progress)
            origin = replace(origin, left_out=tally.sentence(*units_of(scene, model.contract)))
            writer.tag(origin.tags())
            notes += write_products(writer.make(), path.parent, products, model, target.grid, origin)
            writer.publish()
    return _result(model, path, count_values(path), (path, *sidecars), (*left_out_of(path), *notes))


def _result(model: Predictor, path: Path, counts: Any, files: tuple[Path, ...], notes: tuple[str, ...]) -> MapResult:
    """Of a map whose values are counted (256,)."""
    numbers = {entry.name: entry.value for entry in model.classes} or {str(model.quantity and model.quantity.name): 0}
    pixels = {name: int(counts[number]) for name, number in numbers.items()}
    return MapResult(path, pixels, int(counts[NODATA]), files, notes + left_beside(path, files))


def _refuse_beside(path: Path, products: Products, resume: bool, zarr_format: int) -> None:
    """Raises ConfigError for what a store has not."""
    from prithvi.mapping.zarrfile import check_format

    check_format(zarr_format)
    for name in ("polygons", "zones", "item", "style"):
        if getattr(products, name):
            raise ConfigError(f"{path} is a Zarr store, and {name} go beside GeoTIFFs: leave out the one or the other.")
    if resume:
        raise ConfigError(f"{path} is a Zarr store, and maps are resumed as GeoTIFFs: leave out resume, or the .zarr.")


@dataclass(frozen=True)
class MapRun:
    """Classes with their probabilities, or a quantity; a `prithvi.mapping.engine.Run`."""

    model: Predictor
    origin: Provenance
    batch_size: int = 8
    device: str | torch.device | None = None
    compile: bool = False
    confidence: bool = True
    probabilities: bool = False
    disagreement: bool = False

    @property
    def contract(self) -> Contract:
        """Units that pixels are read in."""
        return self.model.contract

    def outputs(self, target: Target) -> xr.Dataset:
        """What `prithvi.map` gives, blank."""
        size, classes, quantity = target.grid.shape[-2:], self.model.classes, self.model.quantity
        if quantity is not None:
            result = placed({"value": ((), blank(size, "float32"))}, target.grid)
            result["value"].attrs.update(long_name=quantity.name, units=quantity.unit)
        else:
            result = placed({"class": ((), blank(size, "uint8"))}, target.grid)
            result["class"].attrs.update(class_flags(classes))
            if self.confidence:
                result["confidence"] = (("y", "x"), blank(size, "float32"))
            if self.probabilities:
                result["probability"] = (("category", "y", "x"), blank((len(classes), *size), "float32"))
                result = result.assign_coords(category=[entry.name for entry in classes])
        if self.disagreement:
            unit = quantity.unit if quantity is not None else "1"
            result["disagreement"] = (("y", "x"), blank(size, "float32"), {"units": unit})
        result = result.assign_attrs(self.origin.tags())
        if self.model.folder:
            result.attrs["model_folder"] = self.model.folder
        if "time" in target.scene.coords:
            result.attrs["dates"] = [str(time) for time in target.scene["time"].values.astype("datetime64[s]")]
        return result

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """See `prithvi.mapping.engine.Run`."""
        model, sizes = self.model, (part.plan.window, self.batch_size)
        options: dict[str, Any] = {"compile": self.compile, "concurrent": model.concurrent}
        with scoring(model.module, part.place, model.coordinates, *sizes, self.device, **options) as by:
            compared = partial(compared_in, model) if self.disagreement else None
            pixels = rows_of(scene, self.contract, part.tally)
            for rows in part.blend(pixels, scene, by.predict, by.batch_size, compared, by.ahead):
                yield rows.start, values_of(model, rows, self.confidence, self.probabilities)


def _target(
    scene: xr.DataArray,
    window: int,
    stride: int | None,
    overlap: float | None,
    area: Area | None,
    compared: bool,
    clear: xr.DataArray | None,
) -> Target:
    """The windows of a map; where windows are compared, they overlap by half unless something else is said."""
    wanted = None
    if clear is not None:
        from prithvi.mapping.masks import clear_over  # which other maps do not wait for

        wanted = clear_over(clear, scene).any("time")
    target = Target.of(scene, window, windows.stride_of(window, stride, overlap, compared), area, wanted)
    if compared:
        target.part.plan.require_overlap()
    return target
