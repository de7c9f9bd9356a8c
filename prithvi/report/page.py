"""Results as a single HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from prithvi.errors import ConfigError, SceneError
from prithvi.files import read_text, refuse_unreachable, write_text
from prithvi.report.result_sheets import sheet_of_map
from prithvi.report.series_sheets import Chart, dates_in, is_cube, sheets_of_series
from prithvi.report.sheets import Sheet, source_of

_HERE = Path(__file__).parent


def view(
    results: str | Path | Sequence[str | Path],
    output: str | Path = "report.html",
    *,
    scene: xr.DataArray | None = None,
    scenes: Mapping[Path, xr.DataArray] | None = None,
    title: str | None = None,
    measured: Mapping[str, str] | None = None,
) -> Path:
    """Writes a self-contained page of results, which opens from disk without a network.

    Args:
        results: maps of `prithvi map`, folders or Zarr stores of `prithvi fill`, folders of several maps, or one
            folder of `prithvi compare`, whose page is copied.
        output: the file to write.
        scene: the scene of a single map, from `prithvi.open_scene`; default the input named in its tags, if it exists
            and states its bands. Otherwise, the page shows the map alone.
        scenes: scenes of several maps, by the maps' paths.
        title: title of the page; default the names of the results.
        measured: metrics to show by name, in addition to those in the model folder.

    Returns:
        The path of the page.

    Raises:
        ConfigError: there is nothing to show, or one scene was given for several maps.
        SceneError: a file cannot be read.
        OutputError: the page cannot be written.

    """
    paths = [Path(results)] if isinstance(results, (str, Path)) else [Path(result) for result in results]
    for path in paths:
        refuse_unreachable(path, SceneError)
    comparison = next((path for path in paths if (path / "results.csv").is_file()), None)
    if comparison is not None:
        if len(paths) > 1:
            raise ConfigError(f"{comparison} is a comparison, which has a page of its own: give it alone.")
        return write_text(Path(output), read_text(comparison / "index.html"))
    names = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    title = title or (", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more")
    return write_text(Path(output), page_of(_sheets(paths, scene, scenes or {}), title, measured or {}))


def page_of(sheets: Sequence[Sheet], title: str, measured: Mapping[str, str]) -> str:
    """The HTML of the page."""
    import jinja2

    # Everything is inlined: pictures as data URLs, data as JSON, style and script. The script's digest goes into the
    # page's content security policy, so that no other script runs.
    script = "".join((_HERE / file).read_text(encoding="utf-8") for file in ("chart.js", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    template = environment.from_string((_HERE / "page.html.jinja").read_text(encoding="utf-8"))
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    inlined: dict[str, Any] = {"source_of": source_of, "style": style, "script": script, "digest": digest}
    charts: list[Chart] = list({id(sheet.chart): sheet.chart for sheet in sheets if sheet.chart is not None}.values())
    each = [
        {**sheet.plain(), "chart": next((at for at, one in enumerate(charts) if one is sheet.chart), None)}
        for sheet in sheets
    ]
    data = {"sheets": each, "charts": [chart.plain() for chart in charts]}
    return template.render(title=title, sheets=sheets, measured=measured, data=data, **inlined)


def _sheets(paths: Sequence[Path], scene: xr.DataArray | None, scenes: Mapping[Path, xr.DataArray]) -> list[Sheet]:
    files: list[Path] = []
    found: list[Sheet] = []
    for path in paths:
        if path.is_dir() and (is_cube(path) or dates_in(path)):
            found += sheets_of_series(path)
        elif path.is_dir():
            rasters = sorted(path.glob("*.tif"))
            beside = ("_confidence", "_disagreement", "_probabilities")
            files += [file for file in rasters if not file.stem.endswith(beside)]
        elif path.is_file():
            files.append(path)
        else:
            raise SceneError(f"there is no {path}: give maps, or folders that prithvi map, fill or compare wrote.")
    if not files and not found:
        raise ConfigError(f"there is nothing to show in {', '.join(map(str, paths))}: no map, series or comparison.")
    if scene is not None and len(files) != 1:
        raise ConfigError(f"one scene was given for {len(files)} maps: show them one by one, or without it.")
    return [*(sheet_of_map(file, scene if scene is not None else scenes.get(file)) for file in files), *found]
