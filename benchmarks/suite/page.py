"""docs/benchmarks.md and the figures of README.md, made of the JSON that `make bench` and `make results` write."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.suite.accuracy import Study, missed_elsewhere, studies
from benchmarks.suite.figures import Entry, Judged, entries_of, exponent, judged, of, spread, times
from benchmarks.suite.machine import ROOT
from benchmarks.suite.registry import BENCHMARKS, Benchmark
from prithvi.files import write_text

RESULTS = ROOT / "benchmarks" / "results"
FILES = {"make bench": RESULTS / "bench.json", "make results": RESULTS / "results.json"}
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
BEGIN, END = "<!-- figures of benchmarks/results/bench.json, written by make bench -->", "<!-- end of figures -->"
OWN = {"runs", "seconds", "cpu", "MB"}
UNITS = {"seconds": "time", "cpu": "CPU time", "MB": "memory"}

HEAD = """# Benchmarks

<!-- Written by `python -m benchmarks.suite --page` out of benchmarks/results/*.json: do not edit. -->

<!-- not run: 40 minutes, and hours -->
```sh
make bench      # the list below at two sizes: measures, and writes this page
make results    # four sizes and accuracy: hours; what is finished is kept when it is stopped
```

Ours and what it is compared with take turns in one run on one machine, every other turn backwards. *Times* are what
the other took by what ours (the first way of a table) took in the same round: above 1 ours is better. They survive a
busy machine, which seconds do not: seconds of two runs or two machines do not compare. Medians, with the least and
the greatest in brackets. A *limit* is what nobody could do without. Memory is what a run's peak lies above what its
process held after imports, a model and one batch. Sizes, ways and aims are listed in
`benchmarks/suite/registry.yaml`; what is timed stands in `benchmarks/suite/jobs`.
"""
ACCURACY = """
## Accuracy

What [2605.12678](https://arxiv.org/abs/2605.12678) asks of a claim: whose data under which licence, an evaluation that
others share, what was run again here and what was copied, how much it varies, one harness for all, and what is owed to
the data and what to the network. All figures are of the pages that are named, measured here by one harness for all
methods of a table; **none was copied from a paper, and none is a score of a public benchmark**, whose datasets were out
of reach. `make results DATA=FOLDER` runs these again.

"""


def number(value: float, digits: int = 3) -> str:
    """Some significant digits, and all those of whole numbers above."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def between(values: Sequence[float], digits: int = 3) -> str:
    """Median (least to greatest)."""
    least, middle, most = (number(value, digits) for value in spread(values))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def origin(whole: dict[str, Any]) -> str:
    """Machine, versions, date, command, load and, where there is one, a note."""
    machine = whole["machine"]
    loads = [entry[f"load {when}"] for entry in whole["entries"] for when in ("before", "after")]
    versions = ", ".join(f"{name} {version}" for name, version in whole["versions"].items())
    busy = ": other work ran beside, so that ratios hold and seconds are too many" * (max(loads) > machine["cores"] + 1)
    lines = [
        f"`{whole['command']}`, {whole['date']}, {whole['minutes']:.0f} minutes. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory GB']} GB,",
        f"{machine['system']}; with {', '.join(machine['flags'])}, without {', '.join(machine['without'])}.",
        f"Python {machine['python']}, {versions}.",
        f"Load {min(loads):.1f} to {max(loads):.1f}{busy}.",
        *([whole["note"]] if "note" in whole else []),  # written by hand, of what no figure says
        "",
    ]
    return "\n".join(lines)


def rows(benchmark: Benchmark, entry: Entry) -> list[list[str]]:
    """A row a way."""
    lines, size = [], f"{entry['size']:,}" if entry["size"] else ""
    if "failed" in entry:
        return [[size, "", "**failed**", *[""] * 5]]
    for way in benchmark.ways:
        told = entry["ways"][way.name]
        label = f"{way.label} (limit)" if way.kind == "limit" else way.label
        seconds = of(entry, way.name, "seconds")
        if not seconds:
            why = f"not measured: {told['missing']}" if "missing" in told else "**failed**"
            lines.append([size, label, why, *[""] * 5])
            continue
        cpu, memory = of(entry, way.name, "cpu"), of(entry, way.name, "MB")
        mega = number(statistics.median(memory)) if memory else ""
        ratios = [
            between(found) if way is not benchmark.ways[0] and found else ""
            for found in (times(entry, benchmark.ways[0].name, way.name, figure) for figure in UNITS)
        ]
        lines.append([size, label, between(seconds), number(statistics.median(cpu)), mega, *ratios])
        size = ""
    return lines


def facts(benchmark: Benchmark, entry: Entry) -> list[str]:
    """What ways said beside times, and how well they agree."""
    told = []
    for way in benchmark.ways:
        runs = entry.get("ways", {}).get(way.name, {}).get("runs", [])
        said = [f"{name} {number(runs[-1][name])}" for name in (runs[-1] if runs else {}) if name not in OWN]
        if said:
            told.append(f"{way.label}: {', '.join(said)}")
    told += [f"{name} {value:.2%}" for name, value in entry.get("check", {}).items()]
    return told


def verdict(found: Judged) -> str:
    """A sentence about an aim."""
    ways = {way.name: way.label for way in found.benchmark.ways}
    much = "no more" if found.aim.times == 1.0 else f"{number(found.aim.times)} times less"
    aim = f"Aim: {much} {UNITS[found.aim.figure]} than {ways[found.aim.against]} ({ways[found.aim.way]})"
    if found.reached:
        return f"{aim}. Reached: {number(found.found)}."
    return f"{aim}. **Behind**: {number(found.found)} times. {found.aim.reason}"


def section(benchmark: Benchmark, entries: Sequence[Entry]) -> str:
    """A benchmark's heading, table, facts, growth and aims."""
    heads = [benchmark.unit or "size", "way", "seconds", "CPU s", "MB", "times, seconds", "times, CPU", "times, MB"]
    lines = [row for entry in entries for row in rows(benchmark, entry)]
    keep = [place for place in range(len(heads)) if any(row[place] for row in lines)]
    text = f"### {benchmark.title}\n\n{benchmark.about}\n\n"
    text += table([heads[place] for place in keep], [[row[place] for place in keep] for row in lines])
    told = facts(benchmark, entries[-1])
    at = f" at {entries[-1]['size']:,} {benchmark.unit}" if benchmark.unit else ""
    if told:
        text += f"\nBeside{at}: {'; '.join(told)}.\n"
    growth = [(way.label, exponent(benchmark, entries, way.name)) for way in benchmark.ways]
    grown = [f"{label} {value:.2f}" for label, value in growth if value is not None]
    if grown:
        what = "pixels" if benchmark.squared else benchmark.unit
        text += f"\nCPU time grows with {what} to the power of: {', '.join(grown)}.\n"
    for found in judged(benchmark, entries):
        text += f"\n{verdict(found)}\n"
    return text


def summary(whole: dict[str, Any]) -> str:
    """A row a benchmark and way that ours is compared with, at the largest size."""
    lines = []
    for benchmark in BENCHMARKS:
        entries = [entry for entry in entries_of(whole, benchmark) if "failed" not in entry]
        if not entries:
            continue
        last, own = entries[-1], benchmark.ways[0].name
        for way in benchmark.ways[1:]:
            faster = times(last, own, way.name)
            if way.kind == "ours" or not faster:
                continue
            memory = times(last, own, way.name, "MB")
            size = f"{last['size']:,} {benchmark.unit}" if benchmark.unit else ""
            label = f"{way.label} (limit)" if way.kind == "limit" else way.label
            lines.append([benchmark.title, size, label, between(faster), between(memory) if memory else ""])
    return table(["what", "size", "compared with", "times, seconds", "times, memory"], lines)


def missing(command: str, whole: dict[str, Any]) -> list[str]:
    """Titles of what is not there at all of its sizes."""
    sizes = {each.title: each.more if command == "make results" else each.sizes for each in BENCHMARKS}
    return [each.title for each in BENCHMARKS if len(entries_of(whole, each)) < len(sizes[each.title])]


def behind(whole: dict[str, Any]) -> list[Judged]:
    """Aims that were not reached in a file."""
    found = [each for benchmark in BENCHMARKS for each in judged(benchmark, entries_of(whole, benchmark))]
    return [each for each in found if not each.reached]


def accuracy_of(study: Study) -> str:
    """One study: what "No One Knows the State of the Art" (2605.12678) asks to be told of a figure."""
    told = [(name, getattr(study, name)) for name in Study.TOLD]
    return f"### {study.title}\n\n" + table(["", ""], [[name.replace("_", " "), text] for name, text in told])


def page(files: dict[str, dict[str, Any]]) -> str:
    """The whole page of what is there, by command."""
    text = HEAD
    for command, whole in files.items():
        sizes = "four" if command == "make results" else "two"
        text += f"\n## {command}: {sizes} sizes\n\n{origin(whole)}\n{summary(whole)}\n"
        text += "\n".join(section(each, found) for each in BENCHMARKS if (found := entries_of(whole, each)))
    text += "\n## Behind their aims\n\nIn the runs above:\n\n"
    late = [(command, each) for command, whole in files.items() for each in behind(whole)]
    text += "".join(f"- {each.benchmark.title} ({command}). {verdict(each)}\n" for command, each in late) or "- none\n"
    text += "\nOf other measurements, each in its own page of results:\n\n"
    text += "".join(f"- {line}\n" for line in missed_elsewhere())
    for command in FILES:
        waiting = missing(command, files.get(command, {"entries": []}))
        if waiting:
            exponents = " (so that no exponent of growth is known)" * (command == "make results")
            text += f"\nNot measured by `{command}` on this machine yet{exponents}: {'; '.join(waiting)}.\n"
    text += ACCURACY
    text += "\n".join(accuracy_of(study) for study in studies())
    runs = [run for whole in files.values() for run in whole["entries"] if run["benchmark"].startswith("accuracy:")]
    for run in runs:
        name = run["benchmark"].partition(":")[2]
        text += f"\n### Run again: {name}\n\n`{run['command']}`\n\n```text\n{run['text']}\n```\n"
    return text


def readme(text: str, whole: dict[str, Any]) -> str:
    """README.md with its figures.

    Raises:
        ValueError: it has no place for them.

    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no lines {BEGIN} and {END} for its figures.")
    return f"{before}{BEGIN}\n{summary(whole)}\n{origin(whole)}{END}{after}"


def read() -> dict[str, dict[str, Any]]:
    """The files that are there, by command."""
    found = {command: path for command, path in FILES.items() if path.is_file()}
    return {command: json.loads(path.read_text(encoding="utf-8")) for command, path in found.items()}


def write() -> None:
    """Writes the page, and README's figures where `make bench` was run."""
    files = read()
    write_text(PAGE, page(files))
    if "make bench" in files:
        write_text(README, readme(README.read_text(encoding="utf-8"), files["make bench"]))
