"""A model run on the windows of a scene: its device, precision and threads, and the dates and places it is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Self

import torch
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from torch import nn

from prithvi.contract import Contract, Quantity
from prithvi.coords import latitude_longitude, year_and_day
from prithvi.errors import ConfigError, ModelError
from prithvi.modelio import load
from prithvi.modelio.predictor import ClassEntry, FittedModel, Mappable, distinct_color
from prithvi.models.zoo import VARIANTS
from prithvi.scenes import transform_of

Model = str | Path | FittedModel | Mappable
"""A model folder or exported program, or what `prithvi.load` gives for one."""
FEW = 2
"""Windows that a thread predicts together."""


def mappable(model: Model | nn.Module) -> Mappable:
    """What a map can be made with.

    Raises:
        ModelError: a pretrained model, which has no classes.
        CheckpointError, ConfigError: see `prithvi.load`.

    """
    found = load(model) if isinstance(model, (str, Path)) and str(model) not in VARIANTS else model
    if not isinstance(found, (FittedModel, Mappable)):
        told = model if isinstance(model, (str, Path)) else f"a {type(model).__name__}"
        raise ModelError(f"{told} is a pretrained model; a map needs a fine-tuned one (prithvi fit, prithvi demo).")
    return found.mappable() if isinstance(found, FittedModel) else found


def mappable_module(
    module: nn.Module,
    contract: Contract,
    *,
    classes: Sequence[str | ClassEntry] = (),
    quantity: Quantity | None = None,
    window: int = 224,
    frames: int = 1,
    name: str = "",
) -> Mappable:
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
    return Mappable(module.eval(), contract, window, frames, classes=entries, quantity=quantity, name=called)


@dataclass(frozen=True)
class Ground:
    """Where and when a scene is."""

    transform: Affine
    crs: CRS | None
    dates: torch.Tensor | None
    """(1, T, 2) year and day of year from 0."""

    @classmethod
    def of(cls, scene: xr.DataArray) -> Ground:
        """Place and dates of a scene."""
        dates = None
        if "time" in scene.coords:
            dates = torch.from_numpy(year_and_day(scene["time"].values))[None]
        return cls(transform_of(scene), scene.rio.crs, dates)

    def below(self, row: int) -> Ground:
        """The same for the part of the scene that begins with `row`."""
        return replace(self, transform=self.transform @ Affine.translation(0, row))

    def places(self, centres: list[tuple[float, float]]) -> torch.Tensor:
        """(B, 2) latitude and longitude in degrees of rows and columns; NaN without a coordinate reference system."""
        rows, columns = zip(*centres, strict=True)
        crs = self.crs.to_wkt() if self.crs is not None else None
        return torch.from_numpy(latitude_longitude(self.transform, crs, rows, columns)).float()


class Scoring:
    """A module on its device; a context manager to call with windows for their scores.

    Args:
        module: see `prithvi.modelio.predictor.Mappable`.
        ground: where the windows lie.
        coordinates: whether the module takes dates and places.
        batch_size: windows at once, at most.
        device: torch device; default a GPU where there is one.
        compile: let torch compile the module first: minutes that long maps on a GPU give back.
        concurrent: whether the module may be called from several threads, which on a CPU is quicker.

    """

    def __init__(
        self,
        module: nn.Module,
        ground: Ground,
        coordinates: bool,
        batch_size: int,
        device: str | torch.device | None = None,
        *,
        compile: bool = False,
        concurrent: bool = False,
    ) -> None:
        self.ground, self.coordinates, self.device = ground, coordinates, device_of(device)
        self.module = module.to(self.device)
        self.batch_size = batch_size
        self.compiled = torch.compile(self.module, dynamic=False) if compile else None
        apart = concurrent and not compile and self.device.type == "cpu"
        self.threads = WindowThreads(batch_size) if apart else None

    def __enter__(self) -> Self:
        if self.threads is not None:
            self.threads.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.threads is not None:
            self.threads.__exit__(*error)

    def __call__(self, pixels: torch.Tensor, centres: list[tuple[float, float]]) -> Iterable[torch.Tensor]:
        """(B, band, T, y, x) pixels and the row and column of each window centre to B times (outputs, y, x) scores."""
        if self.threads is not None:
            return self.threads(torch.inference_mode()(self.module), pixels, *self._coordinates(centres))
        return self._together(pixels, centres)

    def _coordinates(self, centres: list[tuple[float, float]]) -> list[torch.Tensor | None]:
        """Dates and places, as far as the module takes them and they are known."""
        if not self.coordinates:
            return []
        dates, there = self.ground.dates, self.ground.crs is not None
        return [
            dates.to(self.device).expand(len(centres), -1, 2) if dates is not None else None,
            self.ground.places(centres).to(self.device) if there else None,
        ]

    @torch.inference_mode()
    def _together(self, pixels: torch.Tensor, centres: list[tuple[float, float]]) -> torch.Tensor:
        number = len(pixels)
        images = pixels.to(self.device)
        if self.compiled is not None:  # one shape, so that it is compiled once
            images = torch.cat([images, images[:1].expand(self.batch_size - number, *images.shape[1:])])
            centres = [*centres, *centres[:1] * (self.batch_size - number)]
        coordinates = self._coordinates(centres)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            scores: torch.Tensor = (self.module if self.compiled is None else self.compiled)(images, *coordinates)
        return scores[:number]


class WindowThreads:
    """Context manager; call it with a function and the batch that it takes, which is predicted a few windows at a time.

    There are as many threads as torch would use for all of it together. Few windows fit a core's caches, hold little
    memory, and on a thread of their own wait for nobody in the midst of them. Meanwhile torch uses one thread where
    this is entered: what is done between batches would only get in their way.

    Args:
        batch_size: windows that are handed over at once.

    """

    def __init__(self, batch_size: int) -> None:
        self.threads = torch.get_num_threads()
        workers = max(1, min(self.threads, batch_size // FEW))
        self.pool = ThreadPoolExecutor(workers, "windows", torch.set_num_threads, (self.threads // workers,))
        self.places, self.lock = workers + 1, Lock()
        self.answers = torch.empty(0)

    def __enter__(self) -> Self:
        torch.set_num_threads(1)
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self.threads)

    def __call__(self, function: Callable[..., torch.Tensor], *batch: torch.Tensor | None) -> Iterator[torch.Tensor]:
        """The answers one by one, in order, each until the next is asked for; None among the tensors stays None."""
        size = next(len(values) for values in batch if values is not None)

        # Answers are copied into a ring of buffers, one more than there are workers: the one that is being consumed is
        # never written. Memory is bounded so, and is allocated once a shape.
        def work(first: int) -> torch.Tensor:
            part = slice(first, first + FEW)
            found = function(*(values[part] if values is not None else None for values in batch))
            with self.lock:
                if self.answers.shape[2:] != found.shape[1:]:
                    self.answers = torch.empty(self.places, FEW, *found.shape[1:], dtype=found.dtype)
            return self.answers[first // FEW % self.places, : len(found)].copy_(found)

        begun: deque[Future[torch.Tensor]] = deque()
        for first in range(0, size, FEW):
            if len(begun) == self.places:
                yield from begun.popleft().result()
            begun.append(self.pool.submit(work, first))
        while begun:
            yield from begun.popleft().result()


def device_of(asked: str | torch.device | None) -> torch.device:
    """The device asked for, or a GPU where there is one.

    Raises:
        ConfigError: there is no such device here.

    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.zeros(1, device=device)
    # Torch's three ways to say no: an unknown or absent device, a build without CUDA, a backend without kernels.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"there is no device {asked!r} here: 'prithvi doctor' lists what there is.") from error
    return device
