"""`make bench` and `make results`: the list is whole, a run goes on where it stopped, a failure costs no other figure,
and the page and README say what the JSON says.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks.suite.__main__ as command_line
from benchmarks.suite import accuracy, figures, page, runner
from benchmarks.suite.child import named
from benchmarks.suite.machine import ROOT
from benchmarks.suite.registry import BENCHMARKS, Aim, Benchmark, Way

OURS, PLAIN = Way("ours", "ours", "ours"), Way("python", "python alone", "limit")
QUICK = Benchmark(
    "quick", "Quick", "A process.", "startup:prepare_import", (OURS, PLAIN), sizes=(0,), more=(0,), rounds=1
)
BROKEN = dataclasses.replace(QUICK, name="broken", prepare="startup:there_is_none")
ASK = runner.Processes(ROOT / "no such folder", 120)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_an_entry_of_the_list_can_be_run(benchmark: Benchmark) -> None:
    for path in filter(None, (benchmark.prepare, benchmark.make, benchmark.check)):
        assert callable(named(path)), path
    ways = {way.name: way for way in benchmark.ways}
    assert len(ways) == len(benchmark.ways) >= 2
    assert benchmark.ways[0].kind == "ours"
    assert any(way.kind != "ours" for way in ways.values()), "nothing to compare with"
    sized = benchmark.unit != ""
    assert len(benchmark.sizes) in ((0, 2) if sized else (1,))
    assert len(benchmark.more) == (4 if sized else 1)
    assert all(benchmark.amount(size) > 0 for size in benchmark.more if sized)
    for aim in benchmark.aims:
        assert {aim.way, aim.against} <= set(ways)
        assert aim.figure in page.UNITS
        assert len(aim.reason.split()) > 4


def test_names_of_the_list_are_its_own() -> None:
    assert len({each.name for each in BENCHMARKS}) == len(BENCHMARKS)


def results(folder: Path, **head: Any) -> runner.Results:
    return runner.Results(folder / "r.json", "make results", head or runner.head_of(ASK))


def refused(job: dict[str, Any]) -> Any:
    raise AssertionError(f"{job} was measured again")


def test_a_run_goes_on_where_it_stopped_and_a_failure_costs_no_other(tmp_path: Path, capsys: Any) -> None:
    head = runner.head_of(ASK)
    first = results(tmp_path, **head)
    failed = runner.run([BROKEN, QUICK], first, ASK, more=True)
    assert len(failed) == 2  # both of its ways
    assert failed[0].startswith("broken at 0, ours: Traceback")
    kept = json.loads(first.path.read_text(encoding="utf-8"))
    ways = kept["entries"][1]["ways"]
    assert ways["ours"]["runs"][0]["seconds"] > ways["python"]["runs"][0]["seconds"] > 0
    assert kept["machine"]["cores"]
    assert kept["versions"]["torch"]

    again = results(tmp_path, **head)
    again.resume()
    assert runner.run([QUICK], again, refused, more=True) == []
    assert "quick at 0: measured before" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="measured again"):  # what failed is tried again
        runner.run([BROKEN], again, refused, more=True)


def test_figures_of_other_code_are_kept_apart(tmp_path: Path) -> None:
    head = {"machine": {"cores": 2}, "versions": {}, "code": "1"}
    first = results(tmp_path, **head)
    first.keep("key", {"benchmark": "quick", "size": 0, "took": 1.0})
    again = results(tmp_path, **{**head, "code": "2"})
    again.resume()
    assert again.entries == {}
    (kept,) = tmp_path.glob("r-*.json")
    assert json.loads(kept.read_text(encoding="utf-8"))["code"] == "1"


def test_a_process_without_an_end_is_a_failure_with_its_name(tmp_path: Path) -> None:
    hurried = runner.Processes(ROOT / "no such folder", 0.05)
    whole = results(tmp_path, machine={}, versions={}, code="")
    assert runner.run([QUICK], whole, hurried, more=True) == ["quick at 0: ended after 0 seconds without a result"]


def test_the_command_names_what_failed_and_says_so_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(command_line, "BENCHMARKS", (BROKEN, QUICK))
    monkeypatch.setattr(sys, "argv", ["suite", "--out", str(tmp_path / "mine.json")])
    assert command_line.main() == 1
    said = capsys.readouterr()
    assert "quick at 0: measured" in said.out
    assert said.err.strip().endswith("2 of the list failed, named above; the others are kept.")
    assert "FAILED broken at 0, ours" in said.err
    assert len(json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["entries"]) == 2


def entry(size: int, **seconds: list[float]) -> dict[str, Any]:
    runs = {way: {"runs": [{"seconds": s, "cpu": s, "MB": 10 * s} for s in all_]} for way, all_ in seconds.items()}
    return {"benchmark": "made", "size": size, "ways": runs, "load before": 1.0, "load after": 1.5, "took": 3.0}


MADE = Benchmark(
    "made", "Made", "Nothing.", "", (OURS, Way("peer", "a peer", "peer")), (10, 20), (10, 20, 40, 80), 3,
    "pixels a side", squared=True,
    aims=(Aim("ours", "peer", 2.0, "It is slow for a reason."), Aim("ours", "peer", 0.5, "", "MB")),
)  # fmt: skip


def test_figures_are_medians_of_ratios_within_rounds() -> None:
    one = entry(10, ours=[1.0, 2.0, 4.0], peer=[3.0, 2.0, 8.0])
    assert figures.times(one, "ours", "peer") == [3.0, 1.0, 2.0]
    assert page.between(figures.times(one, "ours", "peer")) == "2 (1 to 3)"
    assert page.number(1234.5) == "1,234"
    assert page.number(0.01234) == "0.0123"


def test_growth_is_fitted_where_there_are_four_sizes() -> None:
    entries = [entry(size, ours=[1e-3 * size**3.0], peer=[1.0]) for size in (10, 20, 40, 80)]
    found = figures.exponent(MADE, entries, "ours")
    assert found == pytest.approx(1.5)  # of pixels, of which a side has the square root
    assert figures.exponent(MADE, entries[:3], "ours") is None
    assert "CPU time grows with pixels to the power of: ours 1.50, a peer 0.00." in page.section(MADE, entries)


def test_what_is_behind_its_aim_is_marked_with_the_reason() -> None:
    entries = [entry(10, ours=[1.0], peer=[9.0]), entry(20, ours=[2.0], peer=[3.0])]
    behind, reached = figures.judged(MADE, entries)
    assert (behind.size, behind.found, behind.reached, reached.reached) == (20, 1.5, False, True)
    text = page.section(MADE, entries)
    assert "2 times less time than a peer (ours). **Behind**: 1.5 times. It is slow for a reason." in text
    assert "0.5 times less memory than a peer (ours). Reached: 1.5." in text


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    if importlib.util.find_spec("geoai") is not None:
        pytest.skip("geoai is installed here")
    job = {"what": "measure", "prepare": "maps:prepare_map", "ways": ["geoai"], "size": 64, "rounds": 1}
    found = ASK({**job, "folder": str(tmp_path), "apart": True})["geoai"]
    assert found == {"runs": [], "missing": "geoai-py is not installed"}
    whole = {"ways": {"ours": {"runs": []}, "peer": found}, "size": 10}
    assert any("not measured: geoai-py is not installed" in row for row in page.rows(MADE, whole))


def test_the_page_and_readme_say_what_the_files_say() -> None:
    """After a change: python -m benchmarks.suite --page."""
    files = page.read()
    assert "make bench" in files, "a page without a run of make bench"
    assert page.PAGE.read_text(encoding="utf-8") == page.page(files)
    text = page.README.read_text(encoding="utf-8")
    assert page.readme(text, files["make bench"]) == text


def test_the_page_names_what_was_not_measured() -> None:
    known = {"entries": [{"benchmark": each.name, "size": size} for each in BENCHMARKS[1:] for size in each.sizes]}
    assert page.missing("make bench", known) == [BENCHMARKS[0].title]
    assert BENCHMARKS[-1].title in page.missing("make results", known)


def test_every_study_tells_all_and_its_command_is_there(tmp_path: Path, capsys: Any) -> None:
    for study in accuracy.studies():
        assert all(str(getattr(study, field)).strip() for field in accuracy.Study.TOLD), study.name
        assert all((ROOT / file).is_file() for file in re.findall(r"`(benchmarks/[^`]+)`", study.source))
        command = accuracy.words(study, tmp_path, tmp_path / "out")
        assert command is not None
        script = (ROOT / command[1]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in script for word in command if word.startswith("--"))
    needing = [study for study in accuracy.studies() if "{data}" in study.command]
    assert needing
    assert all(accuracy.words(study, None, tmp_path) is None for study in needing)


def test_accuracy_that_fails_is_named_and_what_was_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study = accuracy.studies()[0]
    good = dataclasses.replace(study, name="good", command="python -c 'print(\"| IoU .5 |\")'")
    bad = dataclasses.replace(study, name="bad", command="python -c 'raise SystemExit(\"no imagery\")'")
    monkeypatch.setattr(accuracy, "studies", lambda: [bad, good, study])
    whole = results(tmp_path, machine={}, versions={}, code="")
    assert list(accuracy.run(whole, None)) == ["accuracy of bad: ended with status 1: no imagery"]
    assert f"accuracy of {study.name}: not run, it needs the imagery" in capsys.readouterr().out
    assert whole.entries["accuracy:good:" + good.command]["text"] == "| IoU .5 |"
    monkeypatch.setattr(accuracy, "studies", lambda: [good])
    assert list(accuracy.run(whole, None)) == []
    assert "accuracy of good: measured before" in capsys.readouterr().out


def test_every_script_says_whom_it_is_for() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(bench_\w+\.py)` \|", text, flags=re.M)
    assert sorted(listed) == sorted(file.name for file in (ROOT / "benchmarks").glob("bench_*.py"))
