"""`prithvi compare` on small squares of the shipped flood image: every method, resumed and reported."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from prithvi.catalog import config_path
from prithvi.errors import ConfigError
from prithvi.evaluation.compare import (
    Comparison,
    Result,
    Trial,
    read_comparison,
    read_result,
    rows_of,
    with_baselines,
    write_report,
    write_result,
)
from prithvi.modelio.card import read_figures
from tests.conftest import Answer

Cli = Callable[..., Answer]
pytestmark = pytest.mark.filterwarnings("ignore:The number of training batches")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    plain = {
        "baselines": False, "because": "this is quick",
        "title": "a < b", "fit": "flood.yaml", "figure": "mIoU", "fractions": [0.5, 1.0], "seeds": 2,
        "options": {
            "trainer.max_epochs": -1, "trainer.max_steps": 2, "trainer.accelerator": "cpu", "data.crop": 32,
            "data.num_workers": 0, "model.window": 32, "data.batch_size": 2,
            "model.model_options": {"embed_dim": 64, "depth": 2, "num_heads": 2},
        },
        "methods": {
            "random": {"model.init": None},
            "U-Net": {"model.head": "unet"},
            "trees": {"baseline": "trees"},
            "MNDWI": {"baseline": "index", "bands": ["green", "swir_1"], "positive": "water", "above": True},
        },
    }  # fmt: skip
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


@pytest.mark.slow
def test_methods_are_compared_resumed_and_reported(prithvi: Cli, squares: Path, config: Path, tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="the U-Net needs the terratorch extra")
    out = tmp_path / "out"
    options = ("-c", config, "-o", out, "--data.root", squares, "--data.splits", squares)
    answer = prithvi("compare", *options)
    assert answer.code == 0, answer.err
    assert "16/16 MNDWI, 100 % of the labels, seed 1: mIoU 1.000" in answer.out  # the label is that index
    table = (out / "table.md").read_text()
    assert table.splitlines()[0] == "| mIoU | 50 % | 100 % |"
    assert re.search(r"\| random \| 0\.\d{3} ± 0\.\d{3} \| 0\.\d{3} ± 0\.\d{3} \|", table)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {(row["fraction"], row["chips"]) for row in rows} == {("0.5", "2"), ("1.0", "4")}
    assert all(0 <= float(row["IoU_water"]) <= 1 for row in rows)
    page = (out / "index.html").read_text()
    assert "<h1>a &lt; b</h1>" in page
    assert "16 of 16 trials are done" in page
    assert "Without the simple baselines: this is quick" in page
    assert "http" not in page.replace("http-equiv", "")  # it needs no network
    assert not [path for path in (out / "runs").rglob("*") if path.is_file() and path.name != "result.json"]

    # A trial that is missing is run, and gives the same; those that are there are not.
    missing = out / "runs" / "random-0.5-1" / "result.json"
    before = json.loads(missing.read_text())["figures"]
    missing.unlink()
    other = out / "runs" / "trees-1-0" / "result.json"
    plain = json.loads(other.read_text())
    other.write_text(json.dumps({**plain, "seconds": 1234.5}))
    again = prithvi("compare", *options)
    assert again.code == 0, again.err
    assert json.loads(missing.read_text())["figures"] == before
    assert "(1234 s)" in again.out or "(1235 s)" in again.out
    for more in (["--model.lr", "0.5"], ["--trainer.max_steps", "3"]):
        refused = prithvi("compare", *options, *more)
        assert refused.code == 2
        assert "was made with other settings: choose another folder" in refused.err
    mine = tmp_path / "flood.yaml"  # beside the comparison, so that it is taken before the shipped one
    mine.write_text(config_path("flood").read_text().replace("lr: 3.0e-4", "lr: 3.0e-3"))
    assert "was made with other settings" in prithvi("compare", *options).err


@pytest.mark.slow
def test_what_does_not_fit_is_said_at_once(prithvi: Cli, squares: Path, config: Path, tmp_path: Path) -> None:
    text = config.read_text()
    for old, new, told in (
        ("figure: mIoU", "figure: IoU_watr", "no figure 'IoU_watr' was measured: did you mean IoU_water"),
        ("baseline: trees", "baseline: tree", "there is no baseline 'tree': did you mean trees"),
        ("above: true", "abov: true", "a baseline index has the settings above, bands, baseline, positive"),
        ("positive: water", "positive: watr", "there is no class 'watr': did you mean water"),
        ("seeds: 2", "seeds: none", "seeds must be a number of 1 and more; it is 'none'"),
        ("because: this is quick", "because: ''", "baselines: false stands beside because: a reason"),
        ("trees:", "U_Net:", "two methods differ in signs alone"),
        ("fit: flood.yaml", "fti: flood.yaml", "there is no setting 'fti': did you mean fit"),
        ("model.head: unet", "model.haed: unet", "--model.haed: there is no setting 'haed'; did you mean head"),
    ):
        assert old in text
        config.write_text(text.replace(old, new))
        options = ["--data.root", squares, "--data.splits", squares, "--seeds", "1", "--fractions", "1"]
        out = tmp_path / old[:4]
        answer = prithvi("compare", "-c", config, "-o", out, *(options if "seeds" not in old else []))
        assert answer.code == 2, answer
        assert told in answer.err


def test_simple_baselines_are_always_there_and_what_cannot_be_is_told(
    prithvi: Cli, squares: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = yaml.safe_load(config.read_text())
    plain |= {"methods": {"MNDWI": plain["methods"]["MNDWI"]}, "seeds": 1, "fractions": [1.0]}
    del plain["baselines"], plain["because"]
    config.write_text(yaml.safe_dump(plain))
    options = ["compare", "-c", config, "-o", tmp_path / "out", "--data.root", squares, "--data.splits", squares]
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    answer = prithvi(*options)
    assert answer.code == 0, answer.err
    table = (tmp_path / "out" / "table.md").read_text()
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert rows[:4] == ["MNDWI", "image statistics", "index", "random features"]
    assert rows[4].startswith("trees: not possible, gradient boosting needs packages that are not installed")
    assert "trees: not possible" in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.undo()
    if importlib.util.find_spec("sklearn"):  # once it is installed, the comparison goes on with it
        assert prithvi(*options).code == 0
        assert re.search(r"\| trees \| [01]\.\d{3} \|", (tmp_path / "out" / "table.md").read_text())
    answer = prithvi(*options, "--no-baselines")
    assert answer.code == 0, answer.err
    table = (tmp_path / "out" / "table.md").read_text()
    assert "random features" not in table
    assert "Without the simple baselines: --no-baselines" in table


def test_baselines_are_those_of_the_task_and_none_stands_twice() -> None:
    floods = with_baselines(Comparison("f", "x", {"mine": {"baseline": "trees"}}), "prithvi.tasks.SegmentationTask")
    assert list(floods.methods) == ["mine", "image statistics", "index", "random features"]
    own = with_baselines(Comparison("f", "x", {"index": {"model.lr": 0.1}}), "prithvi.tasks.SegmentationTask")
    assert own.methods["index"] == {"model.lr": 0.1}
    assert own.methods["index (always)"] == {"model.head": "index"}
    gaps = with_baselines(read_comparison(config_path("compare_cloud_gaps")), "prithvi.tasks.GapFillTask")
    assert list(gaps.methods)[2:] == ["nearest date", "linear in time", "regression", "filling", "local regression"]


def test_spread_is_that_of_the_seeds() -> None:
    results = [Result(Trial("a", 1.0, seed), {"x": value}, 2.0, 7) for seed, value in enumerate((0.2, 0.4, 0.9))]
    (row,) = rows_of(results, "x")
    assert (row.mean, row.spread) == (pytest.approx(0.5), pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1)))
    assert str(row) == "0.500 ± 0.361"
    assert str(rows_of(results[:1], "x")[0]) == "0.200"
    trials = list(Comparison("f", "x", {"a": {}, "b": {}}, (0.5, 1.0), 2).trials())
    assert [trial.method for trial in trials[:2]] == ["a", "b"]
    assert len({trial.name for trial in trials}) == 8


def test_a_seed_without_a_value_leaves_the_mean_open_and_stops_nothing(tmp_path: Path) -> None:
    definition = Comparison("f", "IoU", {"a": {}, "b": {}}, (1.0,), 2)
    values = {"a": (0.5, math.nan), "b": (0.25, 0.75)}
    for trial in definition.trials():
        figures = {"IoU": values[trial.method][trial.seed], "mAcc": 0.5}
        write_result(tmp_path, Result(trial, figures, 2.0, 7), {"seed": trial.seed})
    # What is read on a resumed run, as it is after the first one.
    results = [read_result(tmp_path, trial, {"seed": trial.seed}) for trial in definition.trials()]
    found = [result for result in results if result is not None]
    assert [str(row) for row in rows_of(found, "IoU")] == ["nan", "0.500 ± 0.354"]
    assert str(rows_of(found, "mAcc")[0]) == "0.500 ± 0.000"
    write_report(tmp_path, definition, found, {})
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == ["| a | nan |", "| b | 0.500 ± 0.354 |"]
    write_report(tmp_path, definition, [each for each in found if each.trial.method == "a"][1:], {})
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == ["| a | nan |", "| b | - |"]
    # The card has the figures that every run has.
    runs = [tmp_path / f"a-1-{seed}" / "result.json" for seed in range(2)]
    assert read_figures(runs) == {"mAcc": {"mean": 0.5, "std": 0.0, "runs": 2}}
    assert set(read_figures(runs[:1])) == {"IoU", "mAcc"}


def test_the_files_of_a_comparison_are_replaced_and_never_half_written(tmp_path: Path) -> None:
    """A second name of a file that is written in its place would show the change."""
    names = ("table.md", "results.csv", "curve.png", "index.html")
    definition = Comparison("f", "IoU", {"a": {}, "b": {}}, (1.0,), 1)
    found = [Result(trial, {"IoU": 0.5}, 2.0, 7) for trial in definition.trials()]
    write_report(tmp_path / "out", definition, found[:1], {})
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    for name in names:
        (tmp_path / name).hardlink_to(tmp_path / "out" / name)
    write_report(tmp_path / "out", definition, found, {})
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert all((tmp_path / "out" / name).read_bytes() != before[name] for name in names)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_the_command_line_goes_before_the_file_and_a_method_before_both() -> None:
    from prithvi.cli.compare import _arguments

    comparison = Comparison("f", "x", {"a": {"model.lr": 0.1}}, options=(("trainer.max_steps", 9), ("model.lr", 0.3)))
    words = _arguments(
        Path("f.yaml"), comparison, Trial("a", 0.5, 2), ["--trainer.max_steps", "5", "--model.lr", "0.2"]
    )
    last = dict(zip(words[::2], words[1::2], strict=True))  # of several the last counts
    assert last["--trainer.max_steps"] == "5"
    assert last["--model.lr"] == "0.1"
    assert (last["--data.fraction"], last["--seed_everything"]) == ("0.5", "2")


def test_the_shipped_comparisons_are_whole() -> None:
    for name in ("compare_floods", "compare_burn_scars", "compare_crops", "compare_cloud_gaps"):
        comparison = read_comparison(config_path(name))
        assert config_path(comparison.fit.removesuffix(".yaml")).is_file()
        assert list(comparison.methods)[:2] == ["pretrained", "random"]
        assert comparison.seeds == 5
    with pytest.raises(ConfigError, match="cannot be read"):
        read_comparison(Path("nowhere.yaml"))
