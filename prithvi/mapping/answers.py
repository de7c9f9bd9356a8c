"""What finished scores become: a class, a confidence, probabilities, or a quantity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from prithvi.errors import ModelError
from prithvi.mapping.blend import BlendedRows
from prithvi.mapping.rasters import NODATA, Raster
from prithvi.modelio.predictor import Mappable

STEPS = 250
"""Whole numbers from probability 0 to 1 in files of uint8."""


class Answers:
    """The rasters of a map; call it with finished rows for their values.

    Args:
        model: whose classes or quantity they show.
        confidence: whether the probability of the chosen class is one of them.
        probabilities: `uint8` or `float32` for those of every class.

    """

    def __init__(self, model: Mappable, confidence: bool = False, probabilities: str | None = None) -> None:
        self.model = model
        self.confidence = confidence and bool(model.classes)
        self.probabilities = probabilities if model.classes else None

    def rasters(self, stem: str, tags: Mapping[str, str]) -> list[Raster]:
        """The files, the map first."""
        quantity = self.model.quantity
        if quantity is not None:
            name = quantity.name
            return [Raster(f"{stem}.tif", (name,), "float32", float("nan"), tags, unit=quantity.unit)]
        classes = self.model.classes
        found = [Raster(f"{stem}.tif", ("class",), "uint8", NODATA, tags, classes=classes, resampling="MODE")]
        if self.confidence:
            found.append(Raster(f"{stem}_confidence.tif", ("confidence",), "uint8", NODATA, tags, 1 / STEPS))
        if self.probabilities is not None:
            names = tuple(entry.name for entry in classes)
            form = (NODATA, 1 / STEPS) if self.probabilities == "uint8" else (float("nan"), None)
            found.append(Raster(f"{stem}_probabilities.tif", names, self.probabilities, form[0], tags, form[1]))
        return found

    def __call__(self, rows: BlendedRows) -> list[npt.NDArray[np.generic]]:
        """(rows, width) values of each raster, (classes, rows, width) of the probabilities."""
        plain = values_of(self.model, rows, self.confidence or self.probabilities is not None)
        if self.model.quantity is not None:
            return [plain["value"]]
        found: list[npt.NDArray[np.generic]] = [plain["class"]]
        if self.confidence:
            found.append(in_steps(plain["confidence"]))
        if self.probabilities is not None:
            chances = plain["probability"]
            found.append(in_steps(chances) if self.probabilities == "uint8" else chances)
        return found


def values_of(model: Mappable, rows: BlendedRows, probabilities: bool = True) -> dict[str, npt.NDArray[np.generic]]:
    """`value` (rows, width) float32 of a quantity; else `class` (rows, width) uint8, each a `ClassEntry.value`, and on
    request `probability` (classes, rows, width) and `confidence` (rows, width), both float32. Where there is no data
    they are NaN, the class 255.

    Raises:
        ModelError: another number of scores than there are classes.

    """
    valid, names = rows.valid, [entry.name for entry in model.classes]
    if len(rows.scores) not in (0, len(names) or 1):
        raise ModelError(
            f"the model gave {len(rows.scores)} scores a pixel; {len(names) or 1} were to be"
            f"{': ' + ', '.join(names) if names else ', of a quantity'}."
        )
    if model.quantity is not None:
        if len(rows.scores) == 0:
            return {"value": np.full(valid.shape, np.nan, np.float32)}
        values = (rows.scores[0] * model.quantity.std + model.quantity.mean).cpu().numpy()
        return {"value": np.where(valid, values, np.float32(np.nan))}
    if len(rows.scores) == 0:
        nothing = np.full((len(model.classes), *valid.shape), np.nan, np.float32)
        found: dict[str, npt.NDArray[np.generic]] = {"class": np.full(valid.shape, NODATA, np.uint8)}
        return {**found, "probability": nothing, "confidence": nothing[0]} if probabilities else found
    best = first_best(rows.scores).cpu().numpy()
    numbers = [entry.value for entry in model.classes]
    if numbers != list(range(len(numbers))):  # the one place where a model's outputs become class numbers
        best = np.array(numbers, np.uint8)[best]
    found = {"class": np.where(valid, best, np.uint8(NODATA))}
    if probabilities:
        chances = (rows.scores / model.temperature).softmax(dim=0)
        found["probability"] = np.where(valid, chances.cpu().numpy(), np.float32(np.nan))
        found["confidence"] = np.where(valid, chances.amax(dim=0).cpu().numpy(), np.float32(np.nan))
    return found


def first_best(scores: torch.Tensor) -> torch.Tensor:
    """(y, x) uint8: which of (class, y, x) scores is the highest, the first of equal ones.

    Class by class over whole planes, which on a CPU takes a fraction of the time of `argmax` over the first dimension.
    """
    best, found = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    for number in range(1, len(scores)):
        found.masked_fill_(scores[number] > best, number)
        torch.maximum(best, scores[number], out=best)
    return found


def in_steps(probability: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Probabilities as 0 to 250, NaN as 255."""
    steps = np.round(np.nan_to_num(probability, nan=NODATA / STEPS) * STEPS)
    return np.asarray(steps, dtype=np.uint8)
