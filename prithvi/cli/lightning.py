"""Our LightningCLI: joins a data module and a task, checks every key first, and leaves a model folder."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from prithvi import __version__
from prithvi.cli.settings import (
    check,
    head_of,
    refuse_strange_classes,
    with_own_head_options,
    with_shipped,
    without_head,
)
from prithvi.data import ChipDataModule, GapDataModule
from prithvi.errors import ConfigError, InapplicableError, OutputError, PrithviError, TrainingError
from prithvi.evaluation.baseline_trials import gap_trial
from prithvi.files import dumps, refuse_unwritable, write_text
from prithvi.modelio import load, record_of, save, save_pretrained
from prithvi.modelio.loader import published
from prithvi.modelio.model_files import shipped
from prithvi.modelio.predictor import LARGEST, Predictor
from prithvi.models import PrithviMAE
from prithvi.tasks import DistilTask, GapFillTask, PretrainTask, SegmentationTask, Trainer
from prithvi.tasks.finetuning import FineTuningTask
from prithvi.tasks.monitoring import write_figure

_OPTIONS = (
    "Each option below may stand in the file as well; --model.help SegmentationTask and --data.help ChipDataModule "
    "list those of what is trained and of its data."
)
_SAYS = {
    "fit": {"description": f"Trains from a configuration: -c configs/flood.yaml --data.root DIR. {_OPTIONS}"},
    "test": {
        "description": "Measures a checkpoint or a model folder on the test part of the data: -c configs/flood.yaml "
        f"--data.root DIR --ckpt_path FILE_OR_FOLDER. {_OPTIONS}"
    },
}
"""What --help says of a verb."""


class PrithviCLI(LightningCLI):
    """Hands the data's contract and classes to the task, and saves the model after a fit."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # A task that has no such argument is not given it.
        for name, of_data in (
            ("contract", lambda data: data.contract.to_dict()),
            ("classes", lambda data: getattr(data, "classes", None)),
            ("colors", lambda data: getattr(data, "colors", None)),
            ("values", lambda data: getattr(data, "values", None)),
            ("quantity", lambda data: getattr(data, "quantity", None)),
        ):
            parser.link_arguments("data", f"model.init_args.{name}", compute_fn=of_data, apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        if self.subcommand:  # of a trial nothing but what 'compare' writes is kept
            refuse_unwritable(self._get(self.config, "trainer.default_root_dir") or ".")

    def before_fit(self) -> None:
        self._begun = time.monotonic()

    def after_fit(self) -> None:
        """Writes DEFAULT_ROOT_DIR/model: of a fine-tuning from the best checkpoint, of a pretraining as it ended."""
        task, folder = self.model, Path(self.trainer.default_root_dir) / "model"
        state = task.gathered() if isinstance(task, PretrainTask) else {}  # from all devices
        if not isinstance(task, PretrainTask | FineTuningTask | GapFillTask) or not self.trainer.is_global_zero:
            return
        renumbered: list[str] = []
        if isinstance(task, PretrainTask):
            model = PrithviMAE(task.mae.config)
            model.load_state_dict(state)
            more: dict[str, Any] = {"samples": task.samples, "batch": task.global_batch, "seed": task.seed}
            card = task.card if isinstance(task, DistilTask) else ""
            more |= task.record if isinstance(task, DistilTask) else {}
            save_pretrained(model, folder, self._record(task.init, self._figures()) | more, card)
        elif isinstance(task, GapFillTask):
            step, figures = self.best()
            more = {"steps": step, "seed": task.seed, "gap filling": task.filler.settings}
            save_pretrained(task.mae, folder, self._record(task.init, figures) | more)
        else:
            step, figures = self.best()
            named: tuple[str, ...] = ("model", "init", "finetune", "head", "lr")
            if task.fitted_at_once:  # no gradient step, and an encoder only as it is
                named = ("head",) if task.model.encoder is None else ("model", "init", "head")
            settings = {key: task.hparams[key] for key in named}
            record = {**self._record(None, figures), **settings, **task.found, "steps": step}
            fitted = task.fitted(**record, seed=self._get(self.config, "seed_everything"))
            save(fitted, folder)
            moved = (entry for entry in fitted.classes if entry.label is not None)
            renumbered = [f"{entry.value} for {entry.name} (labels: {entry.label})" for entry in moved]
        print(f"Model folder: {folder}")  # noqa: T201
        if renumbered:
            print(  # noqa: T201
                f"A map holds class numbers from 0 to {LARGEST}, and not all of the labels' values are: maps of this "
                f"model have {', '.join(renumbered)}, and say so in their tags LABEL_VALUE_<number>."
            )

    def after_test(self) -> None:
        """Writes DEFAULT_ROOT_DIR/metrics.json, and reliability.png of tasks that predict classes."""
        if not self.trainer.is_global_zero:
            return
        folder = Path(self.trainer.default_root_dir)
        write_text(folder / "metrics.json", dumps(self._figures(), indent=2) + "\n")
        if isinstance(self.model, SegmentationTask):
            from matplotlib.figure import Figure

            from prithvi.plot import reliability

            figure = Figure(figsize=(4.5, 4.5), layout="constrained")
            reliability(self.model.reliability, figure.add_subplot())
            write_figure(figure, folder / "reliability.png", dpi=120)

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
        """How a model was made: the data, the command, the steps, the figures and the time."""
        record = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "command": shlex.join(["prithvi", "fit", *sys.argv[2:]]),
            "prithvi": __version__,
            "data": self.datamodule.described,
            "steps": self.trainer.global_step,
            **figures,
        }
        if not self._get(self.config, "ckpt_path"):  # else it is the time of the last part alone
            record["minutes"] = round((time.monotonic() - self._begun) / 60, 1)
        if init is None:
            return record
        # A published model is known by its name; any other by how it was made.
        return record | {"started from": init if published(init) else record_of(init) or init}


def run(verb: str, arguments: Sequence[str]) -> None:
    """Runs `fit` or `test`.

    Raises:
        ConfigError: a file, key or value that does not fit, in one line.

    """
    arguments = with_own_head_options(with_shipped(arguments))
    model, arguments = _model_in(arguments) if verb == "test" else (None, arguments)
    asked_about = any(re.match(r"(-h|--([\w.]+\.)?help|--print_config)(=|$)", argument) for argument in arguments)
    (refuse_strange_classes if asked_about else check)(arguments)
    with one_sentence():
        if model is None:
            parsed([verb, *arguments])
        else:
            _test(model, arguments)


def _model_in(arguments: list[str]) -> tuple[str | None, list[str]]:
    """A model folder or hub id that stands as --ckpt_path, and the arguments without it."""
    for at, (word, named) in enumerate(itertools.pairwise(arguments)):
        if word != "--ckpt_path" or not named or Path(named).is_file():
            continue
        if Path(named).is_dir() or shipped(named) or re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?(?<!\.ckpt)", named):
            return named, [*arguments[:at], *arguments[at + 2 :]]
    return None, arguments


def _test(model: str, arguments: Sequence[str]) -> None:
    """Measures a model folder on the test split of a configuration, whatever that says of the model."""
    fitted = load(model)
    if not isinstance(fitted, Predictor):
        raise ConfigError(f"{model} is no fine-tuned model, so that there is nothing to measure on labels.")
    if head_of(arguments) == "auto":  # whatever was chosen is in the folder
        arguments = [*without_head(arguments), "--model.head", "light", "--model.head_options", "{}"]
    cli = parsed(arguments, run=False)
    if not isinstance(cli.model, FineTuningTask):
        raise ConfigError(f"{type(cli.model).__name__} does not measure model folders: give a checkpoint.")
    cli.model.adopt(fitted)
    cli.trainer.test(cli.model, datamodule=cli.datamodule)
    cli.after_test()


def run_trial(arguments: Sequence[str], method: Mapping[str, Any]) -> tuple[dict[str, float], int]:
    """One trial of a comparison: its figures on the test split, and the number of training chips.

    A method is trained, and the best checkpoint measured; one that fills gaps without weights is measured alone.

    Args:
        arguments: options of `prithvi fit`, those of the method among them.
        method: its settings, see `prithvi.evaluation.compare`.

    Raises:
        ConfigError: see `run`; or the method is not for these data.
        InapplicableError: such a baseline cannot be made of these data.

    """
    arguments = with_own_head_options(with_shipped(arguments))
    check(arguments)
    kind = method.get("baseline")
    with one_sentence():
        cli = parsed(arguments, run=False)
        task, data = cli.model, cli.datamodule
        if not isinstance(data, ChipDataModule | GapDataModule):
            raise ConfigError(f"shares of {type(data).__name__} cannot be compared: it has no data.fraction.")
        if kind != "gaps":
            cli.trainer.fit(task, datamodule=data)
            cli.best()
            parts = cli.trainer.test(task, datamodule=data, verbose=False)  # one for each loader
            found = {name.removeprefix("test/"): float(value) for part in parts for name, value in part.items()}
            return found, data.training_chips
    if kind == "gaps" and isinstance(task, GapFillTask) and isinstance(data, GapDataModule):
        return gap_trial(task, data, str(method["method"])), data.training_chips
    raise InapplicableError(f"a baseline {kind} is not for {type(task).__name__} with {type(data).__name__}.")


def parsed(arguments: Sequence[str], run: bool = True) -> PrithviCLI:
    """Task, data and trainer that some options say; with `run`, a verb goes before the options and is run."""
    sys.argv = [sys.argv[0], *arguments]  # where LightningCLI looks
    return PrithviCLI(
        datamodule_class=L.LightningDataModule,
        trainer_class=Trainer,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"exit_on_error": False} | (_SAYS if run else {}),
        run=run,
    )


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns what jsonargparse and Lightning raise of a configuration into a ConfigError of one line."""
    try:
        yield
    except (jsonargparse.ArgumentError, ValueError) as error:
        # Ours, where jsonargparse wrapped it while it built a class.
        own = next((one for one in _behind(error) if isinstance(one, PrithviError)), None)
        if own is not None:
            raise own from error
        if isinstance(error, jsonargparse.ArgumentError) or "Union subtypes" in str(error):
            raise ConfigError(f"the configuration does not fit: {_short(str(error))}") from error
        raise
    except RuntimeError as error:
        # torch raises it wherever the program stands; what is raised while that is handled may come instead.
        if isinstance(error, PrithviError) or not any("DataLoader worker" in str(one) for one in _behind(error)):
            raise
        raise TrainingError(
            "a process that loads batches was killed, as happens where memory ends: try fewer (--data.num_workers), "
            "or 0, with which none is needed. --ckpt_path FILE goes on from a checkpoint."
        ) from error
    except PrithviError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or "a file of this run"
        raise OutputError(
            f"{where} cannot be written or read ({error.strerror or error}): is the disk full?"
        ) from error
    except MisconfigurationException as error:
        raise ConfigError(f"the trainer's settings do not fit this machine: {_short(str(error))}") from error


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised because of or while handling."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _short(message: str) -> str:
    """The telling part of jsonargparse's account: the innermost key and what is wrong with it."""
    found = re.findall(r'Parser key "([^"]+)":\s*\n\s*([^\n]+)', message)
    told = [f"{key}: {text.rstrip('.')}." for key, text in found if not text.startswith("Does not validate")]
    if told:
        return told[-1]
    inner = re.findall(
        r'Parser key "([^"]+)":\s*\n\s*Does not validate(?:(?!Parser key).)*?Given value: ([^\n]+)', message, re.S
    )
    kinds = re.findall(r"Subtypes: \[([^\]]+)\]", message)
    if inner and kinds:
        names = [name.replace("NoneType", "null") for name in re.findall(r"class '(?:\w+\.)*(\w+)'", kinds[-1])]
        return f"{inner[-1][0]} is {inner[-1][1]}, and must be {' or '.join(names)}."
    causes = re.findall(r"^\s*- (?!Expected a <class 'NoneType'>)(.+)$", message, re.MULTILINE)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return str(causes[-1]) if causes else " ".join(lines[:2])[:300]
