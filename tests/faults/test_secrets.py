"""Tokens and signatures of addresses are in nothing that is written or said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rasterio
from rasterio.windows import Window

from prithvi.catalog import data_catalog
from prithvi.errors import ConfigError, SceneError
from prithvi.scenes import logins
from tests.conftest import SPAIN, Answer, needs_search
from tests.http_files import Served, serve_folder
from tests.synthetic_hls import Archive

TOKEN, SIGNATURE, WORD = "TOKENabc123", "SIGxyz789", "PASSw0rd55"
SECRETS = (TOKEN, SIGNATURE, WORD)
FLANDERS = data_catalog() / "samples" / "flanders"
DAYS = ("2018-06-28", "2018-07-08", "2018-07-18")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A folder of scenes for whoever has the token (in a header) and the signature (in the address)."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GDAL_HTTP_HEADERS", f"Authorization: Bearer {TOKEN}")
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    monkeypatch.setenv("PRITHVI_ALLOW_PRIVATE", "")
    logins.token.cache_clear()
    web = tmp_path / "web"
    web.mkdir()
    for day in DAYS:
        shutil.copy(FLANDERS / f"{day}.tif", web)
    with rasterio.open(SPAIN) as raster:
        profile = {**raster.profile, "height": 128, "width": 128, "tiled": False, "compress": None}
        pixels, names = raster.read(window=Window(0, 0, 128, 128)), raster.descriptions
    profile = {key: value for key, value in profile.items() if key not in ("blockxsize", "blockysize")}
    with rasterio.open(web / "spain.tif", "w", **profile) as raster:
        raster.write(pixels)
        raster.descriptions = names
    (web / "broken.tif").write_bytes((web / "spain.tif").read_bytes()[:100_000])
    (web / "words.tif").write_text("words")
    with serve_folder(web, token=TOKEN, signature=SIGNATURE) as server:
        yield server
    logins.token.cache_clear()


def found_in(folder: Path) -> list[str]:
    """Files whose name or content has a secret."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [
        f"{secret} in {file.relative_to(folder)}"
        for file in files
        for secret in SECRETS
        if secret.encode() in file.read_bytes() or secret in file.name
    ]


def test_nothing_that_verbs_write_or_say_has_a_secret(
    served: Served, prithvi: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)

    def at(name: str, login: str = "") -> str:
        return f"{served.url.replace('//', f'//{login}')}/{name}?sig={SIGNATURE}&token={TOKEN}"

    spain = ("--sensor", "sentinel-2-l1c", "--date", "2019-09-18")
    days, masks = [at(f"{day}.tif") for day in DAYS], [str(FLANDERS / f"{day}_clouds.tif") for day in DAYS]
    dated = [word for day in DAYS for word in ("--date", day)]
    clouds = [word for mask in masks for word in ("--clouds", mask)]
    works: list[list[str]] = [
        ["map", "water", at("spain.tif"), "-o", "map", *spain, "--confidence", "--report", "map.html"],
        ["map", "water", at("spain.tif", f"user:{WORD}@"), "-o", "login", *spain, "--json"],
        ["map", "water", at("spain.tif"), "-o", "map.zarr", *spain],
        ["fill", *days, "-o", "filled", *dated, *clouds, "--report", "filled.html"],
        ["fill", *days, "-o", "filled.zarr", *dated, *clouds, "--method", "nearest"],
        ["composite", *days, "-o", "composite", *dated, *clouds],
        ["embed", "prithvi_hls_tiny", days[0], "-o", "embedded.tif", "--date", DAYS[0]],
        ["view", "map", "-o", "view.html"],
        ["doctor"],
    ]
    fails: list[list[str]] = [
        ["map", "water", at("missing.tif"), "-o", "failed", *spain],
        ["map", "water", at("broken.tif"), "-o", "failed", *spain],
        ["map", "water", at("words.tif"), "-o", "failed", *spain],
        ["map", "water", at("spain.tif"), at("missing.tif", f"user:{WORD}@"), "-o", "several", *spain],
        ["map", "water", *days, "-o", "failed", "--together"],
        ["fill", *days, "-o", "failed"],
        ["fill", *days, "-o", "failed", *dated, "--clouds", masks[0]],
        ["composite", *days, "-o", "failed", *dated, "--clouds", str(SPAIN)],
        ["mask", days[0], "-o", "failed"],
        ["mask", at("missing.json"), "-o", "failed"],
        ["embed", "prithvi_hls_tiny", at("missing.tif"), "-o", "failed.tif"],
        ["data", "search", "--api", f"{served.url}/?token={TOKEN}", "--bbox", "0", "0", "1", "1", "-o", "found.json"],
    ]
    for number, words in enumerate([*works, *fails]):
        answer = prithvi(*words)
        (out / f"said_{number}.txt").write_text(answer.out + answer.err)
        assert (answer.code == 0) == (words in works), (words, answer.err)
    assert {login for _, _, login in served.requests} >= {f"Bearer {TOKEN}"}  # it was used
    assert len([file for file in out.rglob("*") if file.is_file()]) > 50
    assert found_in(out) == []


def test_a_traceback_has_none_either(served: Served, tmp_path: Path) -> None:
    address = f"{served.url.replace('//', f'//user:{WORD}@')}/missing.tif?sig={SIGNATURE}&token={TOKEN}"
    done = subprocess.run(
        [sys.executable, "-m", "prithvi", "--debug", "map", "water", address, "-o", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "missing.tif (status 404)" in done.stderr
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]


@pytest.mark.slow
@needs_search
def test_signed_items_leave_no_signature_in_a_store_or_in_what_was_fetched(
    archive: Archive, prithvi: Callable[..., Answer], tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, items = tmp_path / "out", tmp_path / "signed.json"
    out.mkdir()
    monkeypatch.chdir(out)
    with serve_folder(archive.root, signature=SIGNATURE) as server:
        text = (archive.root / "items.json").read_text().replace(archive.root.resolve().as_uri(), server.url)
        plain = json.loads(text)
        for item in plain["features"][:2]:
            for asset in item["assets"].values():
                asset["href"] += f"?sig={SIGNATURE}"
        items.write_text(json.dumps({**plain, "features": plain["features"][:2]}))
        for number, (words, code) in enumerate(
            [
                (["data", "build", items, "-o", "more.zarr", "--size", "64", "--frames", "1"], 2),
                (["data", "get", items, "-o", "more"], 2),
                (["data", "build", items, "-o", "chips.zarr", "--size", "64", "--frames", "1"], 0),
                (["data", "get", items, "-o", "got"], 0),
            ]
        ):
            server.signature = SIGNATURE if code == 0 else "another"
            answer = prithvi(*words)
            (out / f"said_{number}.txt").write_text(answer.out + answer.err)
            assert answer.code == code, answer.err
    assert found_in(out) == []


@pytest.mark.parametrize("kind", [SceneError, ConfigError])
def test_errors_hold_no_secret_of_an_address(kind: type[Exception]) -> None:
    told = str(
        kind("'https://name:word@host.org/a.tif?sig=1' and /vsicurl/http://h/b.tif?x=y&z, s3://b/c?d (404): why?")
    )
    assert told == "'https://host.org/a.tif' and /vsicurl/http://h/b.tif, s3://b/c (404): why?"
