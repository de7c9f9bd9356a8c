"""A window of a series filled, and how far off that is likely to be."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prithvi.errors import ModelError, nearest
from prithvi.files import sha256_once
from prithvi.mapping.inference import device_of
from prithvi.mapping.methods import GAP_METHODS, Method
from prithvi.modelio import load, record_of
from prithvi.modelio.loader import find
from prithvi.models import GapFiller, PrithviMAE, Standardise
from prithvi.models.checkpoint import weight_bytes
from prithvi.products.provenance import Provenance

Pixels = npt.NDArray[np.float32]
Known = npt.NDArray[np.bool_]
Fill = Callable[[Pixels, Known, Pixels, tuple[float, float]], Pixels]
"""(band, T, y, x) pixels, (T, y, x) which of them are known, (T, 2) year and day of the year from 0, and (latitude,
longitude), to the same pixels filled; NaN where nothing can be said, or where date and place are not known."""

TOGETHER = 3
"""Dates that are seen together where neither the user nor the model says."""
ENOUGH = 0.05
"""Share of a window that a date knows to be of use to another."""
FEW = 32
"""Pixels below which a date's own errors are not taken for it."""
LEAST = np.float32(1e-3)
"""The standard error of what was filled is never below this: 0 is for what was observed."""


class ModelFill:
    """Filling by an autoencoder; a `Fill`.

    Args:
        filler: the autoencoder and how it treats patches that a gap touches.
        device: torch device; default a GPU where there is one.
        name: of the model in the files that it makes.
        sha256: of its weights.

    Attributes:
        contract: bands and units.
        dates: how many it was made for; it takes any number.
        window: side of the squares that it was trained on, in pixels.
        patch: side of a patch, in pixels.

    """

    def __init__(
        self, filler: GapFiller, device: str | torch.device | None = None, name: str = "", sha256: str = ""
    ) -> None:
        config = filler.mae.config
        self.contract, self.dates, self.name, self.sha256 = config.contract, config.num_frames, name, sha256
        self.window, self.patch = config.img_size[0], config.patch_size[1]
        self.device = device_of(device)
        self.filler = filler.to(self.device).eval()
        self.standardise = Standardise(self.contract).to(self.device)

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this from another."""
        digest = hashlib.sha256()
        for part in weight_bytes(self.filler.mae):
            digest.update(part)
        return {"weights": digest.hexdigest(), "device": self.device.type, **self.filler.settings}

    @torch.inference_mode()
    def __call__(self, image: Pixels, known: Known, times: Pixels, location: tuple[float, float]) -> Pixels:
        valid = torch.from_numpy(known)[None].to(self.device)
        images = self.standardise(torch.from_numpy(np.nan_to_num(image))[None].to(self.device), valid)
        place = torch.tensor([location], dtype=torch.float32, device=self.device)
        filled = self.filler(images, valid, torch.from_numpy(times)[None].to(self.device), place)
        raw = self.standardise.undo(filled)
        result: Pixels = np.where(known, image, raw[0].float().cpu().numpy())
        return result


def with_model(
    model: str | Path | PrithviMAE | GapFiller, device: str | torch.device | None = None, touched: str | None = None
) -> ModelFill:
    """Filling by an autoencoder.

    Args:
        model: name or folder of a pretrained model, or folder of a gap filler that `prithvi fit` wrote (how it treats
            patches that a gap touches is in its record); or what `prithvi.load` gives for one; or a `GapFiller`.
        device: torch device; default a GPU where there is one.
        touched: `hidden` or `visible`, see `GapFiller`; None goes by the folder's record, and is `hidden` without.

    Raises:
        ModelError: a model that is fine-tuned for something else.
        CheckpointError, ConfigError, HubError: see `prithvi.load`.

    """
    name = ""
    settings: dict[str, Any] = {}
    loaded = load(model) if isinstance(model, (str, Path)) else model
    if isinstance(loaded, GapFiller):
        settings, loaded = loaded.settings, loaded.mae
    elif isinstance(model, (str, Path)):
        name, record = str(model), record_of(str(model))
        settings = dict(record.get("gap filling", {}))
        if record.get("decoder") == "not trained":
            raise ModelError(
                f"{name} was distilled, and its decoder is not trained, so that it fills nothing: train one under its "
                f"encoder (prithvi fit -c configs/pretrain_tiny.yaml --model.init {name} --model.freeze_encoder true, "
                "with its --model.model and --model.model_options)."
            )
    if not isinstance(loaded, PrithviMAE):
        called = name or type(loaded).__name__
        raise ModelError(f"{called} is made for something else; gaps are filled by a pretrained model or a gap filler.")
    if touched is not None:
        settings["touched"] = touched
    sha256 = sha256_once(find(name)[1]) if name else ""
    return ModelFill(GapFiller(loaded, **settings), device, name or loaded.config.architecture, sha256)


Fillable = str | Path | PrithviMAE | GapFiller | Fill
"""The name of a method without weights, what `with_model` makes a `Fill` of, or one."""


def as_fill(model: Fillable, device: str | torch.device | None = None) -> Fill:
    """A function as it is, `auto` or a name of `GAP_METHODS` as that method, and anything else by `with_model`.

    Raises:
        ModelError, CheckpointError, ConfigError, HubError: see `with_model`.

    """
    if isinstance(model, str) and model in ("auto", *GAP_METHODS):
        return Method(model)
    if callable(model) and not isinstance(model, (PrithviMAE, GapFiller)):
        return model
    try:
        return with_model(model, device)
    except ModelError as error:
        if isinstance(model, str) and difflib.get_close_matches(model.lower(), GAP_METHODS):
            raise ModelError(f"{error} Of the methods without weights, {nearest(model, GAP_METHODS)}") from error
        raise


def dates_of(fill: Fill) -> int:
    """How many dates a method sees together where nobody says: what it was made for, or three."""
    own = int(getattr(fill, "dates", 0))
    return own if own > 1 else TOGETHER


def origin_of(fill: Fill) -> Provenance:
    """What the files that a method makes say of it."""
    name = getattr(fill, "name", "") or getattr(fill, "__qualname__", type(fill).__name__)
    return Provenance(str(name), str(getattr(fill, "sha256", "")))


@dataclass(frozen=True)
class Filled:
    """A window without gaps."""

    image: Pixels
    """(band, T, y, x); observed pixels as they were, NaN where nothing can be said."""
    uncertainty: Pixels
    """(band, T, y, x) standard error in the same units: 0 where observed, NaN where it cannot be known."""


def fill_window(
    fill: Fill, image: Pixels, known: Known, times: Pixels, location: tuple[float, float], uncertainty: bool = True
) -> Filled:
    """Fills a window, and learns how far off that is from gaps that are made in what is known.

    All dates' gaps are laid over their own known pixels, once upside down and once left to right, and what they hide is
    filled as well: the standard error of a date is the root mean square error there, by band. A date of which that
    hides next to nothing, because it has next to nothing, is judged by its neighbours under its gaps.

    Args:
        fill: how.
        image: (band, T, y, x) pixels.
        known: (T, y, x) which of them are.
        times: (T, 2) year and day of the year from 0.
        location: latitude and longitude.
        uncertainty: whether to make the gaps; without, it is NaN in what was filled.

    Raises:
        ModelError: an answer of another shape.

    """
    zero = np.zeros(image.shape, np.float32)
    if known.all():
        return Filled(image, zero)
    filled = fill(image, known, times, location)
    if filled.shape != image.shape:
        raise ModelError(f"the method gave the shape {filled.shape} for pixels of {image.shape} (band, time, y, x).")
    errors = np.full((image.shape[0], image.shape[1]), np.nan)
    if uncertainty:
        errors = _errors(fill, image, known, times, location)
    unknown = np.broadcast_to(~known, image.shape)
    deviation = np.where(unknown, np.maximum(errors, LEAST)[:, :, None, None], zero).astype(np.float32)
    return Filled(filled, np.where(np.isfinite(filled), deviation, np.float32(np.nan)))


def fill_dates(
    fill: Fill,
    image: Pixels,
    known: Known,
    times: Pixels,
    location: tuple[float, float],
    wanted: Sequence[int],
    together: int,
    uncertainty: bool = True,
    near: Sequence[tuple[int, ...]] | None = None,
) -> Iterator[tuple[Pixels, Pixels]]:
    """Fills some dates of a window, each from those that are most use to it.

    Args:
        fill: how.
        image: (band, T, y, x) pixels, in the order of time.
        known: (T, y, x) which of them are.
        times: (T, 2) year and day of the year from 0.
        location: latitude and longitude.
        wanted: the dates to fill.
        together: how many dates are seen together to fill one.
        uncertainty: see `fill_window`.
        near: for each wanted date those that it may be filled from, in the order of time, itself among them; None for
            all.

    Yields:
        (band, y, x) of each wanted date, filled, and standard errors, as in `Filled`.

    """
    near = [tuple(range(len(known)))] * len(wanted) if near is None else near
    if isinstance(fill, Method) and fill.chooses:
        for of, both in groupby(zip(near, wanted, strict=True), key=itemgetter(0)):
            places = [of.index(date) for _, date in both]
            part = _of_dates(image, of), known[list(of)], times[list(of)]
            filled, errors = fill.fill_dates(*part, places, together, uncertainty)
            yield from zip(filled.swapaxes(0, 1), errors.swapaxes(0, 1), strict=True)
        return
    # Dates with the same neighbours are filled by one call, which gives the answer for each of them.
    found: dict[tuple[int, ...], Filled] = {}
    for date, of in zip(wanted, near, strict=True):
        group = [of[place] for place in neighbours(known[list(of)], of.index(date), together)]
        key, index = tuple(group), group.index(date)
        if key not in found:
            found[key] = fill_window(fill, image[:, group], known[group], times[group], location, uncertainty)
        yield found[key].image[:, index], found[key].uncertainty[:, index]


def _of_dates(image: Pixels, dates: tuple[int, ...]) -> Pixels:
    """(band, T, y, x) of some dates; the image itself if these are all."""
    return image if dates == tuple(range(image.shape[1])) else image[:, list(dates)]


def neighbours(known: Known, date: int, together: int) -> list[int]:
    """The dates that one is filled with in a window, itself among them: those next to it that know enough there.

    Where too few do, those next to it come in that know little or nothing, so that they are always as many.

    Args:
        known: (T, y, x) what each date knows in the window, in the order of time.
        date: the one.
        together: how many.

    """
    number = len(known)
    if together >= number:
        return list(range(number))
    shares = known.mean(axis=(1, 2))
    others = [other for other in range(number) if other != date]
    useful = [other for other in others if shares[other] >= ENOUGH] or [other for other in others if shares[other] > 0]
    line = sorted([*useful, date])
    start = min(max(line.index(date) - together // 2, 0), max(len(line) - together, 0))
    chosen = line[start : start + together]
    rest = sorted((other for other in others if other not in chosen), key=lambda other: abs(other - date))
    return sorted(chosen + rest[: together - len(chosen)])


def _errors(
    fill: Fill, image: Pixels, known: Known, times: Pixels, location: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """(band, T) root mean square errors under each date's gaps; NaN where nothing could be hidden."""
    dates = len(known)
    squares, counts = np.zeros((image.shape[0], dates)), np.zeros(dates)

    def hide(gaps: Known, of: Known, shift: int = 0) -> None:
        """Hides known pixels under (T, y, x) `gaps`, fills them, and adds the squared errors to the sums.

        A date's errors count for the date `shift` positions earlier, whose gaps these are, if it is in (T,) `of`.
        """
        left, hidden = known & ~gaps, known & gaps
        if not left.any() or not hidden.any():
            return
        found = fill(np.where(left, image, np.float32(np.nan)), left, times, location)
        for date in range(dates):
            owner = (date - shift) % dates
            if of[owner]:
                there = hidden[date] & np.isfinite(found[:, date]).all(axis=0)
                difference = (found[:, date] - image[:, date])[:, there].astype(np.float64)
                squares[:, owner] += (difference**2).sum(axis=1)
                counts[owner] += there.sum()

    # The gaps of every date are laid over its own known pixels, mirrored along y and along x: their shapes are real,
    # and the truth below them is known.
    for mirrored in (~known[:, ::-1], ~known[:, :, ::-1]):
        hide(mirrored, np.ones(dates, dtype=bool))
    # A date that is nearly all cloud has too little to hide: its neighbours are filled under its gaps instead.
    unjudged = (counts < FEW) & ~known.all(axis=(1, 2))
    if unjudged.any():
        for shift in sorted({1, dates - 1} - {0}):
            hide(np.roll(~known, shift, axis=0), unjudged, shift)
    if counts.sum() == 0:
        return np.full(squares.shape, np.nan)
    common = squares.sum(axis=1, keepdims=True) / counts.sum()
    # The more pixels a date's own error comes from, the less it leans on that of all dates.
    mean: npt.NDArray[np.float64] = (squares + FEW * common) / (counts + FEW)
    return np.sqrt(mean)
