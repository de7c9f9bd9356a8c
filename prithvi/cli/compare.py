"""`prithvi compare`: methods over shares of the labels and several seeds, resumed where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli.options import Report, typed

if TYPE_CHECKING:
    from prithvi.evaluation.compare import Comparison, Result, Trial


def compare(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", "-c", help="A comparison: configs/compare_floods.yaml")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    seeds: Annotated[int | None, typer.Option(help="Fewer or more than the file says.", min=1)] = None,
    fractions: Annotated[str | None, typer.Option(help="Shares of the labels, such as 0.1,0.5,1.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="The simple methods that every table has.")
    ] = True,
    report: Report = None,
) -> None:
    """Compares methods; further options are those of 'prithvi fit', such as --data.root DIR.

    Trials that are done are not run again. After each, table.md, results.csv, curve.png and index.html are rewritten.
    """
    from prithvi.cli.settings import check, config_files, shipped
    from prithvi.errors import ConfigError, InapplicableError, MissingExtraError
    from prithvi.evaluation.compare import (
        read_comparison,
        read_result,
        rows_of,
        with_baselines,
        write_report,
        write_result,
    )
    from prithvi.files import read_yaml

    path = shipped(config)
    changes: dict[str, Any] = {} if seeds is None else {"seeds": seeds}
    if fractions is not None:
        try:
            changes["fractions"] = tuple(float(word) for word in fractions.split(","))
        except ValueError as error:
            raise ConfigError(f"--fractions {fractions!r} is no list of numbers such as 0.1,0.5,1.") from error
    comparison = dataclasses.replace(read_comparison(path), **changes)
    beside, more = path.parent / comparison.fit, [argument for argument in context.args if argument != "--debug"]
    fit = beside if beside.is_file() else shipped(Path(comparison.fit))
    if not baselines:
        comparison = dataclasses.replace(comparison, because=comparison.because or "--no-baselines")
    if not comparison.because:
        comparison = with_baselines(comparison, str((read_yaml(fit).get("model") or {}).get("class_path")))
    record = _record(typed(), comparison)
    impossible: dict[str, str] = {}
    trials = [(trial, _arguments(fit, comparison, trial, more)) for trial in comparison.trials()]
    results: list[Result] = []
    for _, arguments in trials[: len(comparison.methods)]:
        check(arguments)  # a slip in the last method ends it before the first
    for number, (trial, arguments) in enumerate(trials, start=1):
        method, files = comparison.methods[trial.method], [read_yaml(file) for file in config_files(arguments)]
        settings = {"method": method, "arguments": arguments, "files": files}
        result = read_result(output / "runs", trial, settings)
        if trial.method in impossible:
            continue
        if result is None:
            result = _reused_result(trial, method, results)
            try:
                result = result or _run(trial, method, arguments, output / "runs" / trial.name)
            except (InapplicableError, MissingExtraError) as error:
                if trial.method not in comparison.added:
                    raise
                # Said in the table and not kept: what is missing may be installed before the comparison is resumed.
                impossible[trial.method] = str(error).rstrip(".")
                typer.echo(f"{number}/{len(trials)} {trial.method} is not possible: {error}")
                write_report(output, comparison, results, record, impossible)
                continue
            write_result(output / "runs", result, settings)
        results.append(result)
        rows_of([result], comparison.figure)  # an unknown figure ends it here, not after the last
        share = f"{100 * trial.fraction:g} % of the labels"
        typer.echo(
            f"{number}/{len(trials)} {trial.method}, {share}, seed {trial.seed}: {comparison.figure} "
            f"{result.figures[comparison.figure]:.3f} ({result.seconds:.0f} s)"
        )
        write_report(output, comparison, results, record, impossible)
    typer.echo((output / "table.md").read_text(encoding="utf-8"))
    typer.echo(f"Written to {output}: index.html, table.md, results.csv, curve.png")
    if report is not None:
        from prithvi.report import view

        view(output, report)


def _arguments(fit: Path, comparison: Comparison, trial: Trial, more: list[str]) -> list[str]:
    """What 'prithvi fit' is called with."""
    from prithvi.evaluation.compare import as_options

    own = {key: value for key, value in as_options(comparison.methods[trial.method]).items() if "." in key}
    this = {**own, "data.fraction": trial.fraction, "data.subset_seed": trial.seed, "seed_everything": trial.seed}
    return ["-c", str(fit), *_words(dict(comparison.options)), *more, *_words(this)]


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as the command line has them."""
    words: list[str] = []
    for key, value in options.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words


def _reused_result(trial: Trial, method: Mapping[str, Any], results: Sequence[Result]) -> Result | None:
    """What a method that neither trains nor draws gave before, which it would give again."""
    before = [result for result in results if result.trial.method == trial.method]
    beside = [each for each in results if (each.trial.fraction, each.trial.seed) == (trial.fraction, trial.seed)]
    if method.get("baseline") != "gaps" or not before or not beside:
        return None
    return dataclasses.replace(before[0], trial=trial, chips=beside[0].chips)


def _run(trial: Trial, method: Mapping[str, Any], arguments: list[str], folder: Path) -> Result:
    """One trial from nothing."""
    import shutil
    import time

    from prithvi.cli.lightning import run_trial
    from prithvi.evaluation.compare import Result

    began = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    quiet: dict[str, Any] = {"default_root_dir": str(folder), "devices": 1, "num_nodes": 1}
    quiet |= dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    more = _words({f"trainer.{key}": value for key, value in quiet.items()})
    figures, chips = run_trial([*arguments, *more], method)
    shutil.rmtree(folder, ignore_errors=True)  # checkpoints of trials are nobody's model
    return Result(trial, figures, time.perf_counter() - began, chips)


def _record(command: str, comparison: Comparison) -> dict[str, Any]:
    import datetime as dt
    import platform

    import torch

    from prithvi import __version__

    methods = {f"method {name}": how for name, how in comparison.methods.items()}
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "versions": f"prithvi {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads",
        "fit": comparison.fit,
        "options": ", ".join(f"{key} {value}" for key, value in comparison.options) or "-",
        **{name: ", ".join(f"{key}: {value}" for key, value in how.items()) for name, how in methods.items()},
    }
