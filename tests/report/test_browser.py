"""The page in a browser: it opens from disk, the slider uncovers, the pointer reads, keys and small screens work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio

from prithvi.report import view

playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra 'dev'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a file at a width; fails when the page asks for anything or complains."""
    wrong: list[str] = []
    pages = []

    def go(path: Path, width: int = 1200, height: int = 850, **more: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": height}, **more)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if _goes_out(request.url, path) else None)
        page.goto(path.as_uri())
        page.wait_for_function("sheets[0].values.length === sheets[0].plain.probes.length")
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.close()
    assert wrong == []


def _goes_out(url: str, path: Path) -> bool:
    return not url.startswith("data:") and url != path.as_uri()


def pixel(page: Any, x: float, y: float) -> tuple[int, ...]:
    from io import BytesIO

    from PIL import Image

    shot = Image.open(BytesIO(page.screenshot(clip={"x": x - 1, "y": y - 1, "width": 3, "height": 3}))).convert("RGB")
    return tuple(shot.getpixel((1, 1)))  # type: ignore[arg-type]


def spot(page: Any, column: int, row: int) -> tuple[float, float]:
    """Where a pixel of the picture lies on the screen."""
    found: list[float] = page.evaluate(
        f"""(() => {{ const s = sheets[0], box = s.stage.getBoundingClientRect();
        return [box.left + s.stage.clientLeft + s.x + ({column} + .5) * s.zoom,
                box.top + s.stage.clientTop + s.y + ({row} + .5) * s.zoom]; }})()"""
    )
    return found[0], found[1]


def test_pointing_reads_the_class_at_its_place(flood: Path, tmp_path: Path, open_page: Any) -> None:
    page = open_page(view(flood, tmp_path / "report.html"))
    with rasterio.open(flood) as raster:
        classes, names = raster.read(1), {0: "land", 1: "water"}
        transform = raster.transform
    for column, row in ((3, 5), (75, 60), (149, 119), (20, 100)):
        page.mouse.move(*spot(page, column, row))
        text = page.inner_text(".sheet:not([hidden]) .reading")
        x, y = transform @ (column + 0.5, row + 0.5)
        assert f"class {names[int(classes[row, column])]}" in text
        assert f"{x:.1f}, {y:.1f} (EPSG:32630)" in text
        assert "° N" in text
        assert "° W" in text


def test_the_slider_uncovers_what_lies_below(flood: Path, tmp_path: Path, open_page: Any) -> None:
    page = open_page(view(flood, tmp_path / "report.html"))
    page.fill(".opacity", "100")
    at = spot(page, 75, 60)
    page.fill(".swipe", "100")  # the line at the right: the scene alone
    scene = pixel(page, *at)
    page.fill(".swipe", "0")
    mapped = pixel(page, *at)
    with rasterio.open(flood) as raster:
        color = raster.colormap(1)[int(raster.read(1)[60, 75])][:3]
    assert mapped == color
    assert scene != mapped
    page.fill(".opacity", "0")
    assert pixel(page, *at) == scene
    page.fill(".opacity", "100")
    page.fill(".swipe", "50")
    box = page.locator(".divider").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(spot(page, 140, 0)[0], box["y"] + 220, steps=4)
    page.mouse.up()
    assert float(page.input_value(".swipe")) > 85
    assert pixel(page, *at) == scene


def test_keys_move_the_probe_and_zoom(flood: Path, tmp_path: Path, open_page: Any) -> None:
    page = open_page(view(flood, tmp_path / "report.html"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "stage"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert page.evaluate("[sheets[0].column, sheets[0].row]") == [76, 70]
    assert "class" in page.inner_text(".reading")
    before = page.evaluate("sheets[0].zoom")
    page.keyboard.press("+")
    assert page.evaluate("sheets[0].zoom") > before
    page.keyboard.press("0")
    assert page.evaluate("sheets[0].zoom") == before
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.input_value(".swipe") == "51"


def test_a_phone_shows_all_of_it(filled: Path, tmp_path: Path, open_page: Any) -> None:
    page = open_page(view(filled, tmp_path / "report.html"), width=375, height=740, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.touchscreen.tap(*spot(page, 50, 40))
    assert "pixel filled" in page.inner_text(".sheet:not([hidden]) .reading")
    page.select_option("#choose", "1")
    assert page.inner_text(".sheet:not([hidden]) h2") == "2022-05-17"
    assert page.evaluate("sheets[1].zoom") > 0


def test_names_out_of_files_do_nothing(flood: Path, tmp_path: Path, open_page: Any) -> None:
    evil = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    with rasterio.open(flood, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        raster.update_tags(CLASS_0=evil, CLASS_1=evil)
    page = open_page(view(flood, tmp_path / "report.html", title="honest"))
    page.mouse.move(*spot(page, 75, 60))
    assert evil[:20] in page.inner_text(".reading")
    assert page.title() == "honest"


def test_the_chart_follows_the_pixel_and_the_keyboard_steps_through_the_dates(
    filled: Path, tmp_path: Path, open_page: Any
) -> None:
    page = open_page(view(filled, tmp_path / "report.html"), width=375, height=740)
    page.wait_for_function("charts[0].values && sheets[0].figure.hidden === false")
    page.keyboard.press("Tab")  # the choice of the result
    page.keyboard.press("Tab")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    column, row = page.evaluate("[sheets[0].column, sheets[0].row]")
    bands = page.evaluate("charts[0].plain.bands")

    def shown() -> list[str]:
        return page.locator(".sheet:not([hidden]) .bands b").all_inner_texts()

    def stored(name: str) -> list[str]:
        with rasterio.open(filled / f"{name}.tif") as raster:
            return [f"{value * 1e-4:.3f}" for value in raster.read()[:, row, column]]

    assert shown() == stored("2022-05-01")
    page.keyboard.press("PageDown")
    assert page.inner_text(".sheet:not([hidden]) h2") == "2022-05-17"
    assert page.input_value("#choose") == "1"
    assert page.evaluate("[sheets[1].column, sheets[1].row]") == [column, row]
    assert shown() == stored("2022-05-17")
    page.keyboard.press("ArrowRight")  # the picture of the new date has the focus
    assert page.evaluate("sheets[1].column") == column + 1
    page.keyboard.press("PageUp")
    assert page.inner_text(".sheet:not([hidden]) h2") == "2022-05-01"
    # Filled dates are hollow; a band that is not wanted goes, on all dates.
    page.evaluate("sheets[0].point(50, 40)")
    hollow = page.locator('.sheet:not([hidden]) .chart circle[fill="var(--panel)"]')
    assert hollow.count() == len(bands)
    page.locator(".sheet:not([hidden]) .bands input").first.uncheck()
    assert hollow.count() == len(bands) - 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    label = page.get_attribute(".sheet:not([hidden]) .chart svg", "aria-label")
    assert label.startswith(f"Reflectance on 2 dates; on 2022-05-01 {bands[0]} 0.")
    box = page.locator(".sheet:not([hidden]) .chart svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 12, box["y"] + 60)
    assert page.inner_text(".sheet:not([hidden]) h2") == "2022-05-17"
