"""A map's style: what QGIS reads out of it, and the file's own structure where QGIS is not installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.image import imread

from prithvi.errors import ConfigError, OutputError
from prithvi.mapping import write_style
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.products import RAMP
from prithvi.products.provenance import Provenance

Write = Callable[..., Path]
CLASSES = (ClassEntry(0, "land", "E8E4D0"), ClassEntry(1, 'water & "ice"', "2B6CB0"))
MADE = Provenance("tiny", "ab" * 32, ("a <b>.tif",), "prithvi map m a.tif --sensor x")
QGIS_PYTHON = "/usr/bin/python3"  # Debian's, which has its QGIS
ASK_QGIS = """
import json, sys
from qgis.core import QgsApplication, QgsCoordinateReferenceSystem, QgsMapRendererParallelJob, QgsMapSettings
from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

app = QgsApplication([], False)
app.initQgis()
layer = QgsRasterLayer(sys.argv[1], "map")  # takes the .qml of its name by itself
renderer = layer.renderer()
told = {"valid": layer.isValid(), "kind": renderer.type(), "made": layer.customProperty("PRITHVI_COMMAND")}
if renderer.type() == "paletted":
    entries = renderer.classes()
else:
    entries = renderer.shader().rasterShaderFunction().colorRampItemList()
    told["limits"] = [renderer.classificationMin(), renderer.classificationMax()]
told["entries"] = [(entry.value, entry.color.name(), entry.color.alpha(), entry.label) for entry in entries]
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setBackgroundColor(QColor(0, 0, 0, 0))
settings.setDestinationCrs(layer.crs())
settings.setOutputSize(QSize(layer.width(), layer.height()))
settings.setExtent(layer.extent())
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[2])
print(json.dumps(told))
del layer, job, settings
app.exitQgis()
"""


def in_qgis(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What QGIS has of a map and its style, and (row, column, RGBA) as it draws them, a pixel a pixel."""
    where = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(path.parent), "OMP_NUM_THREADS": "1"}
    ask = [QGIS_PYTHON, "-W", "ignore", "-c"]
    try:
        subprocess.run([*ask, "import qgis.core"], check=True, capture_output=True, env=where)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs QGIS and its Python (Debian: python3-qgis)")
    drawn = path.with_name("drawn.png")
    done = subprocess.run([*ask, ASK_QGIS, path, drawn], capture_output=True, text=True, env=where, timeout=120)
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), np.rint(255 * imread(drawn)).astype(np.uint8)


@pytest.fixture
def flood(write_tif: Write) -> Path:
    classes = np.zeros((1, 40, 60), np.uint8)
    classes[0, 10:30], classes[0, 30:] = 1, 255
    return write_tif(classes, "flood.tif", None, scale=None, nodata=255)


def test_qgis_shows_classes_by_name_and_colour(flood: Path) -> None:
    write_style(flood, classes=CLASSES, provenance=MADE)
    told, drawn = in_qgis(flood)
    assert (told["valid"], told["kind"]) == (True, "paletted")
    assert told["entries"] == [[0, "#e8e4d0", 255, "land"], [1, "#2b6cb0", 255, 'water & "ice"']]
    assert told["made"] == MADE.command
    assert tuple(drawn[5, 30]) == (0xE8, 0xE4, 0xD0, 255)
    assert tuple(drawn[20, 30]) == (0x2B, 0x6C, 0xB0, 255)
    assert drawn[35, 30, 3] == 0  # nothing where there is no data


def test_qgis_shows_a_quantity_in_its_own_unit(write_tif: Write) -> None:
    steps = np.repeat(np.arange(0, 500, 10, dtype=np.int16)[None, :], 20, axis=0)[None]  # 0 to 49 m
    steps[0, :, -1] = -9999
    path = write_tif(steps, "height.tif", None, scale=0.1, nodata=-9999)
    write_style(path, limits=(0, 45), unit="m")
    told, drawn = in_qgis(path)
    assert told["kind"] == "singlebandpseudocolor"
    assert told["limits"] == [0, 45]
    assert [entry[0] for entry in told["entries"]] == pytest.approx(list(range(0, 46, 5)))
    assert [entry[1] for entry in told["entries"]] == [f"#{color.lower()}" for color in RAMP]
    assert told["entries"][3][3] == "15 m"
    assert to_hex(drawn[10, 0, :3] / 255) == f"#{RAMP[0].lower()}"
    assert to_hex(drawn[10, 20, :3] / 255) == f"#{RAMP[4].lower()}"
    assert to_hex(drawn[10, 48, :3] / 255) == f"#{RAMP[9].lower()}"  # 48 m, beyond the range
    assert drawn[10, 49, 3] == 0


def test_the_style_names_every_class(flood: Path) -> None:
    path = write_style(flood, classes=CLASSES, provenance=MADE)
    assert path == flood.with_suffix(".qml")
    assert path.read_text().startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")
    root = ElementTree.parse(path).getroot()
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    assert [dict(entry.items()) for entry in renderer.iterfind("colorPalette/paletteEntry")] == [
        {"value": "0", "color": "#e8e4d0", "alpha": "255", "label": "land"},
        {"value": "1", "color": "#2b6cb0", "alpha": "255", "label": 'water & "ice"'},
    ]
    told = {option.get("name"): option.get("value") for option in root.iterfind("customproperties/Option/Option")}
    assert told == MADE.tags()
    again = path.read_bytes()
    assert write_style(flood, classes=CLASSES, provenance=MADE).read_bytes() == again
    assert not list(flood.parent.glob("*.partial"))


def test_the_ramp_is_cividis_in_even_steps(flood: Path) -> None:
    assert [to_hex(colormaps["cividis"](step)) for step in np.linspace(0, 1, len(RAMP))] == [
        f"#{color.lower()}" for color in RAMP
    ]
    root = ElementTree.parse(write_style(flood, limits=(-1.5, 3), unit="t/ha")).getroot()
    shader = root.find("pipe/rasterrenderer/rastershader/colorrampshader")
    assert shader is not None
    assert (shader.get("minimumValue"), shader.get("maximumValue")) == ("-1.5", "3.0")
    items = shader.findall("item")
    assert [float(str(item.get("value"))) for item in items] == pytest.approx(np.linspace(-1.5, 3, len(RAMP)))
    assert [item.get("label") for item in items][::9] == ["-1.5 t/ha", "3 t/ha"]


def test_a_style_of_nothing_is_refused(flood: Path) -> None:
    for options in ({}, {"classes": CLASSES, "limits": (0.0, 1.0)}):
        with pytest.raises(ConfigError, match="give one of them"):
            write_style(flood, **options)
    for limits in ((1, 1), (2, 1), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(ConfigError, match="the second must be the higher"):
            write_style(flood, limits=limits)
    flood.with_suffix(".qml").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_style(flood, classes=CLASSES)
    assert not list(flood.parent.glob("*.partial"))
