"""`prithvi area`: areas of a map's classes with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prithvi.cli.options import Json
from prithvi.errors import counted

if TYPE_CHECKING:
    from prithvi.evaluation.areas import AreaEstimate

NOTE = (
    "This holds for points that are a random sample in each class of this map (stratified by it), not for points that "
    "were chosen for being clear or near."
)


def area(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="A map that 'prithvi map' wrote.")],
    reference: Annotated[Path, typer.Option(help="Points with the true class, in any vector format.")],
    column: Annotated[str, typer.Option(help="Of the points, with the class by name or number.")] = "class",
    match: Annotated[
        str | None,
        typer.Option(help="What that column holds: name, number (in the map) or label (values of the labels)."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .csv to write the table to.")] = None,
    as_json: Json = False,
) -> None:
    """Estimates the area of each class, and how sure it is, from a map and reference points.

    A map's pixel counts are biased by its errors. The points say how often each class is another in truth, and the
    estimate puts that right (Olofsson et al. 2014).
    """
    from prithvi.evaluation.areas import estimate_areas
    from prithvi.files import atomic_file, dumps

    estimate, points = estimate_areas(map_file, reference, column, match)
    if output is not None:
        with atomic_file(output) as made:
            estimate.table().to_csv(made, index=False)
    if as_json:
        plain = {
            "classes": estimate.table().to_dict("records"),
            "overall_accuracy": estimate.overall,
            "overall_se": estimate.overall_se,
            "overall_low": estimate.overall_interval[0],
            "overall_high": estimate.overall_interval[1],
            "counts": points.counts.tolist(),
            "points_without_map": points.without_map,
            "points_without_class": points.without_class,
            "points_without_place": points.without_place,
            "without_errors": estimate.without_errors() or None,
            "classes_read": points.matched,
            "note": NOTE,
        }
        typer.echo(dumps(plain, indent=2))
        return
    _print(estimate)
    if estimate.without_errors():
        typer.echo(estimate.without_errors())
    reasons = {
        "where the map has no data or does not reach": points.without_map,
        "without a class": points.without_class,
        "without a place (no geometry, or an empty one)": points.without_place,
    }
    left_out = "".join(f"; left out: {number} {why}" for why, number in reasons.items() if number)
    typer.echo(
        f"{counted(int(points.counts.sum()), 'point')} used{left_out}. Their classes were read {points.matched}. {NOTE}"
    )
    if output is not None:
        typer.echo(f"Written to {output}")


def _print(estimate: AreaEstimate) -> None:
    """Areas in hectares, each figure with its 95 % interval."""

    def accuracy(value: float, limits: tuple[float, float]) -> str:
        return "-" if value != value else f"{value:.2f} ({limits[0]:.2f} to {limits[1]:.2f})"

    rows = [["class", "mapped ha", "area ha", "95 % interval", "user's accuracy", "producer's accuracy", "points"]]
    for each in estimate.classes:
        mapped, area, low, high = (f"{area / 1e4:,.1f}" for area in (each.mapped_m2, each.area_m2, *each.interval))
        sure = accuracy(each.users, each.users_interval), accuracy(each.producers, each.producers_interval)
        rows.append([each.name, mapped, area, f"{low} to {high}", *sure, str(each.points)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures in rows:
        cells = (text.rjust(width) for text, width in zip(figures, widths[1:], strict=True))
        typer.echo("  ".join([name.ljust(widths[0]), *cells]))
    typer.echo(f"overall accuracy {accuracy(estimate.overall, estimate.overall_interval)}")
