"""A model run on the windows of a scene: its device, precision and threads, and the dates and places it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from odc.geo.geobox import GeoBox
from torch import nn

from prithvi import windows
from prithvi.contract import Contract, Quantity
from prithvi.coords import latitude_longitude, year_and_day
from prithvi.errors import ConfigError, ModelError, first_line
from prithvi.mapping.sliding_window import Predict
from prithvi.modelio import load
from prithvi.modelio.predictor import ClassEntry, Predictor, distinct_color
from prithvi.models.zoo import VARIANTS
from prithvi.scenes.grids import grid_of_array

Model = str | Path | Predictor
"""A model folder or exported program, or what `prithvi.load` gives for one."""


def mappable(model: Model | nn.Module) -> Predictor:
    """What a map can be made with.

    Raises:
        ModelError: a pretrained model, which has no classes.
        CheckpointError, ConfigError: see `prithvi.load`.

    """
    found = load(model) if isinstance(model, (str, Path)) and str(model) not in VARIANTS else model
    if isinstance(found, Predictor):
        return found.mappable()
    told = model if isinstance(model, (str, Path)) else f"a {type(model).__name__}"
    raise ModelError(f"{told} is a pretrained model; a map needs a fine-tuned one (prithvi fit, prithvi demo).")


def mappable_module(
    module: nn.Module,
    contract: Contract,
    *,
    classes: Sequence[str | ClassEntry] = (),
    quantity: Quantity | None = None,
    window: int = 224,
    frames: int = 1,
    name: str = "",
) -> Predictor:
    """Any torch module as something to map with.

    Args:
        module: takes (B, band, T, Y, X) float32 in the contract's units, NaN where there is no data; gives
            (B, classes, Y, X) scores before the softmax, or (B, 1, Y, X) standardised values of `quantity`.
        contract: what it expects of its input.
        classes: in the order of its outputs, by name or with colours.
        quantity: what it predicts instead of classes.
        window: side of the square it is run on, in pixels.
        frames: dates that it takes.
        name: of the model in the files that it makes; default the module's class.

    """
    entries = tuple(
        entry if isinstance(entry, ClassEntry) else ClassEntry(number, entry, f"{distinct_color(number):06X}")
        for number, entry in enumerate(classes)
    )
    called = name or type(module).__name__
    return Predictor(module.eval(), contract, window, frames, classes=entries, quantity=quantity, name=called)


@dataclass(frozen=True)
class PlaceAndDates:
    """Where and when the pixels of a scene were seen."""

    grid: GeoBox
    times: npt.NDArray[np.datetime64] | None
    """(T,); None where they are not known."""

    @classmethod
    def of(cls, scene: xr.DataArray) -> PlaceAndDates:
        """Place and dates of a scene."""
        return cls(grid_of_array(scene), scene["time"].values if has_dates(scene) else None)

    def below(self, row: int) -> PlaceAndDates:
        """The same for the part of the scene that begins with `row`."""
        return replace(self, grid=self.grid[row:])

    def dates(self) -> torch.Tensor | None:
        """(1, T, 2) year and day of year from 0."""
        return torch.from_numpy(year_and_day(self.times))[None] if self.times is not None else None

    def places(self, centres: list[tuple[float, float]]) -> torch.Tensor:
        """(B, 2) latitude and longitude in degrees of rows and columns; NaN without a coordinate reference system."""
        rows, columns = zip(*centres, strict=True)
        crs = self.grid.crs.to_wkt() if self.grid.crs is not None else None
        return torch.from_numpy(latitude_longitude(self.grid.affine, crs, rows, columns)).float()


def has_dates(scene: xr.DataArray | xr.Dataset) -> bool:
    """Whether its steps in time are dates, and not numbers or nothing."""
    return "time" in scene.coords and scene["time"].dtype.kind == "M"


@dataclass(frozen=True)
class Scoring:
    """How `prithvi.mapping.sliding_window.blend` has windows predicted."""

    predict: Predict
    batch_size: int
    """Windows a call."""
    ahead: int = 0
    """Calls that are begun before the answers of one are taken."""


@contextmanager
def scoring(
    module: nn.Module,
    place: PlaceAndDates,
    coordinates: bool,
    window: int,
    batch_size: int,
    device: str | torch.device | None = None,
    *,
    compile: bool = False,
    concurrent: bool = False,
) -> Iterator[Scoring]:
    """A module on its device: what gives the scores of windows, as long as the context lasts.

    Args:
        module: see `prithvi.modelio.predictor.Predictor`.
        place: where and when the windows lie.
        coordinates: whether the module takes dates and places.
        window: side of the windows.
        batch_size: windows at once, at most.
        device: torch device; default a GPU where there is one.
        compile: let torch compile the module first: minutes that long maps on a GPU give back.
        concurrent: whether the module may be called from several threads, which on a CPU is quicker.

    """
    here = device_of(device)
    module = module.to(here)
    compiled = torch.compile(module, dynamic=False) if compile else None

    def coordinates_of(centres: list[tuple[float, float]]) -> list[torch.Tensor | None]:
        """Dates and places, as far as the module takes them and they are known."""
        if not coordinates:
            return []
        dates, known = place.dates(), place.grid.crs is not None
        return [
            dates.to(here).expand(len(centres), -1, 2) if dates is not None else None,
            place.places(centres).to(here) if known else None,
        ]

    @torch.inference_mode()
    def together(pixels: torch.Tensor, centres: list[tuple[float, float]]) -> torch.Tensor:
        number, images = len(pixels), pixels.to(here)
        if compiled is not None:  # one shape, so that it is compiled once
            images = torch.cat([images, images[:1].expand(batch_size - number, *images.shape[1:])])
            centres = [*centres, *centres[:1] * (batch_size - number)]
        with torch.autocast(here.type, dtype=torch.bfloat16, enabled=here.type == "cuda"):
            scores: torch.Tensor = (module if compiled is None else compiled)(images, *coordinates_of(centres))
        return scores[:number]

    if concurrent and not compile and here.type == "cpu":
        few = windows.by_a_thread(window, batch_size)
        with window_threads(few, workers_for(batch_size, few)) as begin:

            def apart(pixels: torch.Tensor, centres: list[tuple[float, float]]) -> Iterable[torch.Tensor]:
                return begin(torch.inference_mode()(module), pixels, *coordinates_of(centres))

            yield Scoring(apart, few, workers_for(batch_size, few))
    else:
        yield Scoring(together, batch_size)


@contextmanager
def window_threads(few: int, workers: int) -> Iterator[Callable[..., Iterator[torch.Tensor]]]:
    """What begins a function of few windows on a thread, and gives its answers when they are asked for.

    Few windows fit a core's caches, hold little memory, and on a thread of their own wait for nobody in the midst of
    them. Meanwhile torch uses one thread where this is entered: what is done between windows would only get in their
    way.

    The function's arguments are tensors of at most `few` windows, or None. Its answers are taken before as many further
    calls are begun as there are threads, and one more.

    Args:
        few: windows a call.
        workers: threads; see `workers_for`.

    """
    threads, lock, numbers = torch.get_num_threads(), Lock(), count()
    # Answers are copied into a ring of buffers, one more than there are workers: the one that is being consumed is
    # never written. Memory is bounded so, and is allocated once a shape.
    places, answers = workers + 1, torch.empty(0)

    def begin(function: Callable[..., torch.Tensor], *given: torch.Tensor | None) -> Iterator[torch.Tensor]:
        number = next(numbers)

        def work() -> torch.Tensor:
            nonlocal answers
            found = function(*given)
            with lock:
                if answers.shape[2:] != found.shape[1:]:
                    answers = torch.empty(places, few, *found.shape[1:], dtype=found.dtype)
            return answers[number % places, : len(found)].copy_(found)

        return _taken(pool.submit(work))

    pool = ThreadPoolExecutor(workers, "windows", torch.set_num_threads, (threads // workers,))
    torch.set_num_threads(1)
    try:
        yield begin
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def _taken(begun: Future[torch.Tensor]) -> Iterator[torch.Tensor]:
    yield from begun.result()


def workers_for(batch_size: int, few: int) -> int:
    """Threads of `window_threads`: as many as torch would use for all windows of a batch together."""
    return max(1, min(torch.get_num_threads(), batch_size // few))


def device_of(asked: str | torch.device | None) -> torch.device:
    """The device asked for, or a GPU where there is one.

    Raises:
        ConfigError: there is no such device here, or it cannot be used now.

    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ConfigError(f"there is no device '{asked}': 'prithvi doctor' lists what there is.") from error
    try:
        torch.zeros(1, device=device).item()  # 'meta' makes tensors, but has no values to give back
    # Torch's three ways to say no: an absent or full device, a build without CUDA, a backend without kernels.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"the device '{asked}' cannot be used here ({first_line(error)}): 'prithvi doctor' lists what there is."
        ) from error
    return device
