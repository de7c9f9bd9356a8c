"""Which engine runs a map's model, and in which precision: as asked for, or decided once a run.

By default torch runs it, in float32 on a CPU and in bfloat16 on a GPU. What else is asked for or decided wraps the
model's module (`Choice.applied`), so that windows, blending and files know nothing of it. It stands in the key and the
journal of a run, and in the tags of its files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prithvi import windows
from prithvi.errors import ConfigError, ModelError
from prithvi.mapping.engine import Target
from prithvi.mapping.inference import device_of, workers_for
from prithvi.mapping.sliding_window import rows_of
from prithvi.modelio.compiled import Compiled, check_openvino, openvino_version
from prithvi.modelio.model_files import check_engine
from prithvi.modelio.predictor import Predictor
from prithvi.scenes.area import crop

CHECKED = 8
"""Windows of a scene on which `auto` compares the precisions."""
CHANGED = 1e-3
"""The largest share of classes that bfloat16 may change there for `auto` to take it."""
_LOOKED_AT = 64
"""Windows that are looked at to find so many with data."""


@dataclass(frozen=True)
class Choice:
    """An engine and a precision."""

    engine: str = "torch"
    precision: str = "float32"
    notes: tuple[str, ...] = ()
    """How it was decided, in sentences."""

    def facts(self, device: str | torch.device | None) -> dict[str, str]:
        """What a run's key, journal and tags say of it; nothing of what is so by default."""
        if self == replace(Choice(precision=_usual(device)), notes=self.notes):
            return {}
        version = f" {openvino_version()}" if self.engine == "openvino" else ""
        return {"engine": self.engine + version, "precision": self.precision}

    @classmethod
    def of_facts(cls, facts: Mapping[str, str], device: str | torch.device | None) -> Choice:
        """The opposite of `facts`."""
        return cls(str(facts.get("engine", "torch")).split()[0], str(facts.get("precision", _usual(device))))

    def applied(
        self, model: Predictor, target: Target, batch_size: int, device: str | torch.device | None
    ) -> Predictor:
        """The model with a module that runs so. Nothing is compiled yet."""
        if self.engine == "openvino":
            window, frames = target.part.plan.window, target.scene.sizes["time"]
            few = windows.by_a_thread(window, batch_size)
            shaped = replace(model, window=window, frames=frames)
            compiled = Compiled(shaped, self.precision, few, workers_for(batch_size, few))
            return replace(model, module=compiled, concurrent=True)
        if self.precision == _usual(device):
            return model
        return replace(model, module=InPrecision(model.module, self.precision))


class InPrecision(nn.Module):
    """A module in float32 or, by torch's autocast, in bfloat16; its scores are float32."""

    def __init__(self, module: nn.Module, precision: str) -> None:
        super().__init__()
        self.module, self.precision = module, precision

    def forward(self, images: Tensor, *coordinates: Tensor | None) -> Tensor:
        """See `Predictor.module`."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            scores: Tensor = self.module(images, *coordinates)
        return scores.float()


@dataclass(frozen=True)
class Asked:
    """What was asked for; `auto` leaves it to `decide`.

    Raises:
        ConfigError: there is no such engine or precision, or not here.

    """

    engine: str = "torch"
    precision: str | None = None
    """None: what is usual on the device."""
    device: str | torch.device | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        check_engine(self.engine, self.precision)
        if self.engine == "openvino":
            self.check(Choice("openvino"))
        if self.precision == "bfloat16":
            self.check(Choice(precision="bfloat16"))

    def check(self, choice: Choice) -> None:
        """Raises ConfigError where a choice cannot run."""
        kind = device_of(self.device).type
        if choice.engine == "openvino":
            check_openvino()
            if kind != "cpu" or self.compile:
                other = "--compile is of torch" if self.compile else f"the device is {kind}"
                raise ConfigError(f"the engine openvino is for the CPU alone, and {other}: map with --engine torch.")
        if choice.precision == "bfloat16" and not has_bfloat16(kind):
            raise ConfigError(
                f"this {'processor' if kind == 'cpu' else kind} does not compute in bfloat16 (AMX or AVX512_BF16), so "
                "that a map would take longer for fewer digits: say --precision float32."
            )

    def leaves_open(self, choice: Choice) -> bool:
        """Whether a choice is one of those that are asked for."""
        precision = self.precision or self._unsaid()
        return self.engine in ("auto", choice.engine) and precision in ("auto", choice.precision)

    def _unsaid(self) -> str:
        """The precision where none is asked for."""
        return "float32" if self.engine != "torch" else _usual(self.device)

    def taken_over(self, kept: Mapping[str, str] | None, interrupted: bool, path: Path) -> Choice | None:
        """What an earlier run of the same had decided, if this one goes on with it; see `kept_facts` of cog.py."""
        if kept is None:
            return None
        choice = Choice.of_facts(kept, self.device)
        if interrupted:
            return self.goes_on(choice, path)
        return choice if self.leaves_open(choice) else None

    def goes_on(self, kept: Choice, path: Path) -> Choice:
        """What an interrupted run had decided, if that is what is asked for now or if this is left open.

        Args:
            kept: the engine and precision of its finished rows.
            path: the map.

        Raises:
            ConfigError: something else is asked for, or it cannot run here.

        """
        if not self.leaves_open(kept):
            raise ConfigError(
                f"the finished rows of {path} were made by {kept.engine} in {kept.precision}: say --engine "
                f"{kept.engine} --precision {kept.precision} to go on, or remove {path.parent}/.{path.name}.partial to "
                "begin anew."
            )
        self.check(kept)
        return kept

    def decide(self, model: Predictor, target: Target, batch_size: int) -> Choice:
        """An engine and a precision for a scene.

        `auto` takes OpenVINO where it is installed, converts the model and gives torch's scores on made-up windows; and
        bfloat16 where the processor has it and where it changes at most `CHANGED` of the classes on `CHECKED` windows
        of this scene.

        Args:
            model: what is to be run.
            target: the part of a scene.
            batch_size: windows predicted at once.

        """
        if self.precision != "auto":
            return self._engine(self.precision or self._unsaid(), model, target, batch_size)
        told = "float32: this processor does not compute in bfloat16 (AMX or AVX512_BF16)."
        if model.quantity is not None:
            told = "float32: bfloat16 is chosen by the classes that it changes, and this model predicts a quantity."
        elif has_bfloat16(device_of(self.device).type):
            choice = self._engine("bfloat16", model, target, batch_size)
            found = share_changed(model, choice, target, batch_size, self.device)
            told = _sentence(found)
            if found.pixels and found.changed <= CHANGED:
                return replace(choice, notes=(*choice.notes, told))
        choice = self._engine("float32", model, target, batch_size)
        return replace(choice, notes=(*choice.notes, told))

    def _engine(self, precision: str, model: Predictor, target: Target, batch_size: int) -> Choice:
        """The engine for a precision."""
        if self.engine != "auto":
            return Choice(self.engine, precision)
        wanted = Choice("openvino", precision)
        try:
            self.check(wanted)
            compiled = wanted.applied(model, target, batch_size, self.device).module
            assert isinstance(compiled, Compiled)
            compiled.ready()
        except (ConfigError, ModelError) as error:
            return Choice("torch", precision, (f"torch runs the model: {error}",))
        return wanted


@dataclass(frozen=True)
class Changed:
    """What bfloat16 changes on some windows of a scene."""

    windows: int
    pixels: int
    """With data."""
    changed: float
    """Share of them that get another class."""


def share_changed(
    model: Predictor, choice: Choice, target: Target, batch_size: int, device: str | torch.device | None
) -> Changed:
    """How many classes a choice changes against torch in float32, on windows spread over a scene's valid pixels."""
    here, number, pixels, changed = device_of(device), 0, 0, 0
    exact = InPrecision(model.module, "float32").to(here)
    other = choice.applied(model, target, batch_size, device).module.to(here)
    with torch.inference_mode(), torch.autocast(here.type, torch.bfloat16, enabled=here.type == "cuda"):
        for images, coordinates, valid in _some_windows(model, target):
            given = [images.to(here), *(value.to(here) if value is not None else None for value in coordinates)]
            one, another = (module(*given).argmax(dim=1)[0].cpu().numpy() for module in (exact, other))
            height, width = valid.shape
            number, pixels = number + 1, pixels + int(valid.sum())
            changed += int(((one != another)[:height, :width] & valid).sum())
    return Changed(number, pixels, changed / max(pixels, 1))


def _some_windows(
    model: Predictor, target: Target
) -> Iterator[tuple[Tensor, list[Tensor | None], npt.NDArray[np.bool_]]]:
    """At most `CHECKED` windows with data: (1, band, T, y, x) pixels, dates and places, where it counts."""
    plan, scene, found = target.part.plan, target.scene, 0
    places: Mapping[tuple[int, int], None] = dict.fromkeys(
        # Points that fill a square evenly, however many are taken (Roberts 2018).
        (
            plan.rows[int(k * 0.7548776662 % 1 * len(plan.rows))],
            plan.columns[int(k * 0.5698402910 % 1 * len(plan.columns))],
        )
        for k in range(1, _LOOKED_AT + 1)
    )
    for row, column in places:
        rows = slice(row, min(row + plan.window, scene.sizes["y"]))
        columns = slice(column, min(column + plan.window, scene.sizes["x"]))
        asked = None if target.part.mask is None else target.part.mask(rows.start, rows.stop)[:, columns]
        if asked is not None and not asked.any():
            continue
        seen = crop(scene, rows, columns)
        one = Target.whole(seen, windows.plan(seen.sizes["y"], seen.sizes["x"], plan.window))
        caught: list[tuple[Tensor, list[tuple[float, float]]]] = []

        def catch(pixels: Tensor, centres: list[tuple[float, float]], caught: list[Any] = caught) -> Tensor:
            caught.append((pixels.clone(), centres))
            return torch.zeros(1, 1, plan.window, plan.window)

        parts = one.part.blend(rows_of(seen, model.contract), seen, catch, 1)
        valid = np.concatenate([part.valid for part in parts])
        for pixels, centres in caught:
            known = one.part.place.grid.crs is not None
            coordinates = [one.part.place.dates(), one.part.place.places(centres) if known else None]
            yield pixels, coordinates if model.coordinates else [], valid if asked is None else valid & asked
            found += 1
        if found == CHECKED:
            return


def _sentence(found: Changed) -> str:
    if not found.pixels:
        return f"float32: no window with data was found among {_LOOKED_AT} to compare bfloat16 on."
    what = f"{found.changed:.3%} of the classes in {found.windows} windows of this scene ({found.pixels:,} pixels)"
    if found.changed <= CHANGED:
        return f"bfloat16: it changes {what}."
    return f"float32: bfloat16 would change {what}, and at most {CHANGED:.1%} are allowed."


def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device computes in bfloat16, and does not merely emulate it."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    told = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in told if ask is not None)


def _usual(device: str | torch.device | None) -> str:
    return "bfloat16" if device_of(device).type == "cuda" else "float32"
