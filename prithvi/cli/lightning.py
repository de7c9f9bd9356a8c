"""Our LightningCLI: joins a data module and a task, checks every key first, and leaves a model folder."""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from prithvi import __version__
from prithvi.catalog import config_path
from prithvi.data import ChipDataModule, GapDataModule
from prithvi.errors import ConfigError, PrithviError, nearest
from prithvi.evaluation.covered import gap_trial
from prithvi.evaluation.pixels import pixel_trial
from prithvi.modelfolder import record_of, save, save_pretrained
from prithvi.models import PrithviMAE
from prithvi.tasks import GapFillTask, PretrainTask, SegmentationTask
from prithvi.tasks.finetuning import FineTuningTask

_TOP = (
    "seed_everything",
    "trainer",
    "model",
    "data",
    "ckpt_path",
    "weights_only",
    "optimizer",
    "lr_scheduler",
    "verbose",
)


class PrithviCLI(LightningCLI):
    """Hands the data's contract and classes to the task, and saves the model after a fit."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # A task that has no such argument is not given it.
        for name, of_data in (
            ("contract", lambda data: data.contract.to_dict()),
            ("classes", lambda data: getattr(data, "classes", None)),
            ("colors", lambda data: getattr(data, "colors", None)),
            ("quantity", lambda data: getattr(data, "quantity", None)),
        ):
            parser.link_arguments("data", f"model.init_args.{name}", compute_fn=of_data, apply_on="instantiate")

    def after_fit(self) -> None:
        """Writes DEFAULT_ROOT_DIR/model: of a fine-tuning from the best checkpoint, of a pretraining as it ended."""
        task = self.model
        if isinstance(task, PretrainTask):
            state = task.gathered()  # from all devices
            model = PrithviMAE(task.mae.config)
            model.load_state_dict(state)
            if self.trainer.is_global_zero:
                more: dict[str, Any] = {"samples": task.samples, "batch": task.global_batch, "seed": task.seed}
                self._say(save_pretrained(model, self._folder, self._record(task.init, self._figures()) | more))
            return
        if not isinstance(task, FineTuningTask | GapFillTask) or not self.trainer.is_global_zero:
            return
        step, figures = self.best()
        if isinstance(task, GapFillTask):
            more = {"steps": step, "seed": task.seed, "gap filling": task.filler.settings}
            self._say(save_pretrained(task.mae, self._folder, self._record(task.init, figures) | more))
            return
        if isinstance(task, SegmentationTask):
            task.calibrate(self.datamodule.val_dataloader())
        seed = self._get(self.config, "seed_everything")
        self._say(save(task.fitted(prithvi=__version__, steps=step, seed=seed, **figures), self._folder))

    def after_test(self) -> None:
        """Writes DEFAULT_ROOT_DIR/reliability.png, of tasks that predict classes."""
        if isinstance(self.model, SegmentationTask) and self.trainer.is_global_zero:
            from matplotlib.figure import Figure

            from prithvi.plot import show_reliability

            figure = Figure(figsize=(4.5, 4.5), layout="constrained")
            show_reliability(self.model.reliability, figure.add_subplot())
            Path(self.trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
            figure.savefig(Path(self.trainer.default_root_dir) / "reliability.png", dpi=120)

    def best(self) -> tuple[int, dict[str, float]]:
        """Puts the best checkpoint's weights into the task; its step and figures, or those of the end of the run."""
        keeper = self.trainer.checkpoint_callback
        if not (isinstance(keeper, ModelCheckpoint) and keeper.best_model_path and keeper.monitor):
            return self.trainer.global_step, self._figures()
        best = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(best["state_dict"])
        # The other figures are those of the last epoch, which may be other weights.
        score = keeper.best_model_score
        return best["global_step"], {keeper.monitor: round(float(score), 4)} if score is not None else {}

    def _figures(self) -> dict[str, float]:
        return {key: round(float(value), 4) for key, value in self.trainer.callback_metrics.items()}

    def _record(self, init: str | None, figures: dict[str, float]) -> dict[str, Any]:
        """How a pretrained model or a gap filler was made."""
        record = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "command": shlex.join(["prithvi", "fit", *sys.argv[2:]]),
            "prithvi": __version__,
            "data": self.datamodule.described,
            "steps": self.trainer.global_step,
            **figures,
        }
        return record if init is None else record | {"started from": record_of(init) or init}

    @property
    def _folder(self) -> Path:
        return Path(self.trainer.default_root_dir) / "model"

    @staticmethod
    def _say(folder: Path) -> None:
        print(f"Model folder: {folder}")  # noqa: T201


def run(verb: str, arguments: Sequence[str]) -> None:
    """Runs `fit` or `test`.

    Raises:
        ConfigError: a file, key or value that does not fit, in one line.

    """
    arguments = _shipped_configs(list(arguments))
    if not any(argument in ("-h", "--help", "--print_config") for argument in arguments):
        check(arguments)
    with _one_sentence():
        _cli([verb, *arguments])


def fit_and_test(arguments: Sequence[str]) -> tuple[dict[str, float], int]:
    """Fits, takes the best checkpoint and measures it: the figures of the test split, and the number of training chips.

    Raises:
        ConfigError: see `run`.

    """
    arguments = _shipped_configs(list(arguments))
    check(arguments)
    with _one_sentence():
        cli = _cli(arguments, run=False)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        cli.best()
        (figures,) = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    return {name.removeprefix("test/"): float(value) for name, value in figures.items()}, _chips(cli.datamodule)


def measure(arguments: Sequence[str], method: Mapping[str, Any], seed: int) -> tuple[dict[str, float], int]:
    """A baseline on the data of a configuration: its figures on the test split, and the number of training chips.

    Args:
        arguments: as for `fit_and_test`.
        method: see `prithvi.evaluation.compare`.
        seed: of what the method draws.

    Raises:
        ConfigError: see `run`; or the method is not for these data.

    """
    arguments = _shipped_configs(list(arguments))
    check(arguments)
    with _one_sentence():
        cli = _cli(arguments, run=False)
    task, data, kind = cli.model, cli.datamodule, str(method["baseline"])
    if kind == "gaps" and isinstance(task, GapFillTask) and isinstance(data, GapDataModule):
        return gap_trial(task, data, str(method["method"])), _chips(data)
    if kind != "gaps" and isinstance(data, ChipDataModule):
        return pixel_trial(data, method, seed), _chips(data)
    raise ConfigError(f"a baseline {kind} is not for {type(task).__name__} with {type(data).__name__}.")


def _chips(data: Any) -> int:
    if not isinstance(data, ChipDataModule | GapDataModule):
        raise ConfigError(f"shares of {type(data).__name__} cannot be compared: it has no data.fraction.")
    return data.training_chips


def _cli(arguments: Sequence[str], run: bool = True) -> PrithviCLI:
    sys.argv = [sys.argv[0], *arguments]  # where LightningCLI looks
    return PrithviCLI(
        model_class=L.LightningModule,
        datamodule_class=L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"exit_on_error": False},
        run=run,
    )


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Turns what jsonargparse and Lightning raise of a configuration into a ConfigError of one line."""
    try:
        yield
    except (jsonargparse.ArgumentError, ValueError) as error:
        own = _own_error(error)
        if own is not None:
            raise own from error
        if isinstance(error, jsonargparse.ArgumentError) or "Union subtypes" in str(error):
            raise ConfigError(f"the configuration does not fit: {_short(str(error))}") from error
        raise
    except MisconfigurationException as error:
        raise ConfigError(f"the trainer's settings do not fit this machine: {_short(str(error))}") from error


def _own_error(error: BaseException | None) -> PrithviError | None:
    """The error of ours that jsonargparse wrapped while it built a class, if it is one."""
    while error is not None and not isinstance(error, PrithviError):
        error = error.__cause__ or error.__context__
    return error


def _short(message: str) -> str:
    """The telling part of jsonargparse's account: the innermost key and what is wrong with it."""
    found = re.findall(r'Parser key "([^"]+)":\s*\n\s*([^\n]+)', message)
    told = [(key, text) for key, text in found if not text.startswith("Does not validate")]
    if told:
        return f"{told[-1][0]}: {told[-1][1].rstrip('.')}."
    inner = re.findall(
        r'Parser key "([^"]+)":\s*\n\s*Does not validate(?:(?!Parser key).)*?Given value: ([^\n]+)', message, re.S
    )
    kinds = re.findall(r"Subtypes: \[([^\]]+)\]", message)
    if inner and kinds:
        names = [name.replace("NoneType", "null") for name in re.findall(r"class '(?:\w+\.)*(\w+)'", kinds[-1])]
        return f"{inner[-1][0]} is {inner[-1][1]}, and must be {' or '.join(names)}."
    causes = re.findall(r"^\s*- (?!Expected a <class 'NoneType'>)(.+)$", message, re.MULTILINE)
    if causes:
        return str(causes[-1])
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]


def _shipped_configs(arguments: list[str]) -> list[str]:
    """`--config=FILE` in two words, and a config named without a path (flood, or configs/flood.yaml outside a
    checkout) as the shipped one.
    """
    words: list[str] = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        words += [name, value] if sign and name in ("-c", "--config") else [argument]
    for index, argument in enumerate(words[:-1]):
        if argument in ("-c", "--config"):
            words[index + 1] = str(shipped(Path(words[index + 1])))
    return words


def shipped(named: Path) -> Path:
    """A configuration file, or the shipped one of that name where there is none.

    Raises:
        ConfigError: there is neither.

    """
    if named.exists():
        return named
    if named.parent not in (Path(), Path("configs")):
        raise ConfigError(f"there is no configuration file {named}.")
    return config_path(named.stem)


def check(arguments: Sequence[str]) -> None:
    """Every key of the files and options against what exists, before anything heavy is built.

    Raises:
        ConfigError: one that does not exist, with the nearest.

    """
    classes: dict[str, str] = {}
    files = [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument in ("-c", "--config")]
    if not files and not any(argument.startswith("--model") for argument in arguments):
        raise ConfigError("no configuration was given: prithvi fit -c configs/flood.yaml --data.root DIR")
    for file in files:
        try:
            plain = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read ({error}).") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" (line {mark.line + 1})" if mark else ""
            raise ConfigError(f"{file} is not YAML{line}: {getattr(error, 'problem', error)}.") from error
        _check_table(file, _table(file, plain), classes)
    for index, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, _, value = argument[2:].partition("=")
        value = value or (arguments[index + 1] if index + 1 < len(arguments) else "")
        if name == "ckpt_path" and value not in ("best", "last", "hpc", "registry") and not Path(value).is_file():
            raise ConfigError(f"there is no checkpoint {value}.")
        _check_option(name, classes)


def _check_option(name: str, classes: Mapping[str, str]) -> None:
    """One `--section.key` of the command line."""
    section, _, rest = name.partition(".")
    key = rest.removeprefix("init_args.").split(".")[0].rstrip("+")
    where = f"the option --{name}"
    if key and section in classes and key not in ("class_path", "dict_kwargs"):
        _refuse_unknown(where, [key], _options_of(classes[section]))
    elif key and section == "trainer":
        _refuse_unknown(where, [key], _options_of("lightning.Trainer"))
    elif key and section not in _TOP:
        _refuse_unknown(where, [section], _TOP)


def _check_table(file: str, plain: Mapping[str, Any], classes: dict[str, str]) -> None:
    _refuse_unknown(file, plain, _TOP)
    trainer = _table(f"{file}, trainer", plain.get("trainer"))
    _refuse_unknown(f"{file}, trainer", trainer, _options_of("lightning.Trainer"))
    for section in ("model", "data"):
        where = f"{file}, {section}"
        part = _table(where, plain.get(section))
        _refuse_unknown(where, part, ("class_path", "init_args", "dict_kwargs"))
        if "class_path" in part:
            classes[section] = str(part["class_path"])
            _refuse_unknown(where, _table(where, part.get("init_args")), _options_of(classes[section]))
    callbacks = trainer.get("callbacks") or []
    for part in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(part, dict) and "class_path" in part:
            where = f"{file}, {part['class_path']}"
            _refuse_unknown(where, _table(where, part.get("init_args")), _options_of(str(part["class_path"])))


def _table(where: str, part: Any) -> dict[str, Any]:
    """A section of a configuration, empty where it is not there."""
    if part is None:
        return {}
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        raise ConfigError(f"{where} must be a table of settings; it is {part!r}.")
    return part


def _options_of(class_path: str) -> list[str]:
    """Names of a constructor's arguments; an empty list where it takes any."""
    module, _, name = class_path.rpartition(".")
    if not module:
        return []  # a short name, which LightningCLI looks up itself
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no class {class_path!r}: {error}.") from error
    names: dict[str, None] = {}
    for owner in found.__mro__:  # a class that takes **options hands them to the one that it is made from
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()
        names |= {each.name: None for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return list(names)
    return []


def _refuse_unknown(where: str, keys: Iterable[str], known: Sequence[str]) -> None:
    for key in keys:
        if known and key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else nearest(key, known)
            raise ConfigError(f"{where}: there is no setting {key!r}; {hint}")


__all__ = ["PrithviCLI", "PrithviError", "run"]
