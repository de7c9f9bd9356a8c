"""What a model's blended scores mean: classes and their probabilities, or a quantity."""

from __future__ import annotations

import numpy as np
import torch

from prithvi.errors import ModelError
from prithvi.mapping.engine import Arrays
from prithvi.mapping.result_files import NODATA
from prithvi.mapping.sliding_window import BlendedRows
from prithvi.modelio.predictor import Predictor


def compared_in(model: Predictor, scores: torch.Tensor) -> torch.Tensor:
    """What windows are compared in: the probabilities of classes, or a quantity in its unit."""
    if model.quantity is not None:
        return scores * model.quantity.std + model.quantity.mean
    return (scores / model.temperature).softmax(dim=0)


def values_of(model: Predictor, rows: BlendedRows, confidence: bool = True, probabilities: bool = True) -> Arrays:
    """Finished scores as what they mean.

    Args:
        model: whose scores they are.
        rows: the scores; none before the first window with data.
        confidence: whether to give it.
        probabilities: whether to give them.

    Returns:
        `value` (rows, width) float32 of a quantity; else `class` (rows, width) uint8, each a `ClassEntry.value`,
        `probability` (classes, rows, width) and `confidence` (rows, width), both float32. Where there is no data they
        are NaN, the class 255. Where windows were compared `disagreement` (rows, width), too.

    Raises:
        ModelError: another number of scores than there are classes.

    """
    valid, scores, names = rows.valid, rows.scores, [entry.name for entry in model.classes]
    number, nan = len(names) or 1, np.float32(np.nan)
    if len(scores) == 0:  # every pixel so far is without data, whatever stands in its place
        scores = torch.zeros(number, *valid.shape)
    if len(scores) != number:
        told = ", ".join(names) or "a quantity"
        raise ModelError(f"the model gave {len(scores)} scores a pixel; expected {number} ({told}).")
    found: Arrays = {}
    if rows.deviation is not None:
        found["disagreement"] = np.where(valid, rows.deviation.cpu().numpy(), nan)
    if model.quantity is not None:
        values = (scores[0] * model.quantity.std + model.quantity.mean).cpu().numpy()
        return {"value": np.where(valid, values, nan), **found}
    best = first_best(scores).cpu().numpy()
    numbers = [entry.value for entry in model.classes]
    if numbers != list(range(number)):  # the one place where a model's outputs become class numbers
        best = np.array(numbers, np.uint8)[best]
    found["class"] = np.where(valid, best, np.uint8(NODATA))
    if confidence or probabilities:
        chances = (scores / model.temperature).softmax(dim=0)
        if confidence:
            found["confidence"] = np.where(valid, chances.amax(dim=0).cpu().numpy(), nan)
        if probabilities:
            found["probability"] = np.where(valid, chances.cpu().numpy(), nan)
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
