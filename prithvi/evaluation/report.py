"""Reports of a comparison: tables, a chart, and a self-contained HTML page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prithvi.evaluation.compare import Comparison, Result, Row, rows_of

_PAGE = Path(__file__).with_name("comparison.html.jinja")


def write_report(folder: Path, comparison: Comparison, results: Sequence[Result], record: Mapping[str, Any]) -> None:
    """Writes results.csv (all metrics of all trials), table.md, curve.png and index.html.

    Args:
        folder: folder to write to.
        comparison: definition of the comparison.
        results: results so far.
        record: how they were made (command, versions, machine), by name.

    """
    import jinja2

    rows = rows_of(results, comparison.figure)
    table = _table(rows, comparison)
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        names = sorted({name for result in results for name in result.figures})
        writer = csv.writer(file)
        writer.writerow(["method", "fraction", "seed", "chips", "seconds", *names])
        for each in results:
            trial = each.trial
            figures = [each.figures.get(name, "") for name in names]
            writer.writerow([trial.method, trial.fraction, trial.seed, each.chips, each.seconds, *figures])
    heads = [f"{100 * fraction:g} %" for fraction in comparison.fractions]
    lines = [f"| {comparison.figure} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {method} | {' | '.join(cells)} |" for method, cells in table]
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture = _picture(results, comparison)
    (folder / "curve.png").write_bytes(picture)
    page = jinja2.Environment(autoescape=True).from_string(_PAGE.read_text(encoding="utf-8"))
    text = page.render(
        title=comparison.title, figure=comparison.figure, smaller=comparison.smaller, seeds=comparison.seeds,
        fractions=comparison.fractions, table=table, record=record, done=len(results),
        all=len(list(comparison.trials())), picture=base64.b64encode(picture).decode(),
    )  # fmt: skip
    (folder / "index.html").write_text(text, encoding="utf-8")


def _table(rows: Sequence[Row], comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Each method with its cells, one per fraction; a dash for missing results."""
    found = {(row.method, row.fraction): str(row) for row in rows}
    return [
        (method, [found.get((method, fraction), "-") for fraction in comparison.fractions])
        for method in comparison.methods
    ]


def _picture(results: Sequence[Result], comparison: Comparison) -> bytes:
    """A PNG chart: a line per method over the number of labelled chips, or bars for a single fraction."""
    from matplotlib.figure import Figure

    from prithvi.plot import label_efficiency

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    trials = [(each.trial.method, each.chips, each.figures[comparison.figure]) for each in results]
    label_efficiency(trials, figure.add_subplot(), figure=comparison.figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()
