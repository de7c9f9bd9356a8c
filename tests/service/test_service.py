"""One service for all tests here, asked by clients that others wrote."""

from __future__ import annotations

import importlib
import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio

from tests.conftest import SPAIN
from tests.http_files import Served, serve_folder
from tests.service_client import Reply, Service

pytest.importorskip("pygeoapi", reason="needs pygeoapi: pip install 'prithvi[serve]'")
jsonschema = pytest.importorskip("jsonschema")
requests = pytest.importorskip("requests")

INPUTS = {
    "scene": "spain.tif", "sensor": "sentinel-2-l1c", "dates": ["2019-09-18"], "bbox": [-0.77, 38.09, -0.765, 38.095],
}  # fmt: skip
BROAD = {"scene": "broad.tif", "level": "TOA", "scale": 10000, "offset": 0}
LINK = {
    "type": "object",
    "required": ["href"],
    "properties": {name: {"type": "string"} for name in ("href", "rel", "type", "hreflang", "title")},
}
TIME = {"type": "string", "format": "date-time"}
STATUS = {
    "type": "object",
    "required": ["jobID", "status", "type"],
    "properties": {
        "processID": {"type": "string"},
        "jobID": {"type": "string"},
        "type": {"enum": ["process"]},
        "status": {"enum": ["accepted", "running", "successful", "failed", "dismissed"]},
        "message": {"type": "string"},
        **dict.fromkeys(("created", "started", "finished", "updated"), TIME),
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "links": {"type": "array", "items": LINK},
    },
}
"""The status of a job and a link as Part 1, 1.0 has them, written anew: its published files are not here."""
EXCEPTION = {
    "type": "object",
    "required": ["type"],
    "properties": {"status": {"type": "integer"}, **{name: {"type": "string"} for name in ("type", "title", "detail")}},
}
VALUE = {"type": "object", "required": ["value"], "properties": {"mediaType": {"type": "string"}}}
RESULTS = {
    "type": "object",
    "additionalProperties": {
        "oneOf": [{**LINK, "not": VALUE}, {**VALUE, "not": LINK}, {"type": "array", "items": LINK}]
    },
}


def fits(plain: Any, schema: dict[str, Any]) -> None:
    jsonschema.validate(plain, schema, format_checker=jsonschema.FormatChecker())


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "far.tif").write_bytes(SPAIN.read_bytes())
    with serve_folder(folder) as served:
        yield served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, web: Served, model_folder: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "scenes").mkdir()
    (folder / "scenes" / "spain.tif").write_bytes(SPAIN.read_bytes())
    with rasterio.open(SPAIN) as raster:
        profile, pixels = raster.profile | {"height": 64, "width": 64}, raster.read(window=((0, 64), (0, 64)))
    with rasterio.open(folder / "scenes" / "unnamed.tif", "w", **profile) as raster:
        raster.write(pixels)
    with rasterio.open(folder / "scenes" / "broad.tif", "w", **profile | {"count": 6}) as raster:
        raster.write(pixels[[1, 2, 3, 7, 11, 12]])
        raster.descriptions = ("blue", "green", "red", "nir_broad", "swir_1", "swir_2")
    (folder / "service.yml").write_text(
        "folders: [scenes]\nprivate_hosts: [127.0.0.1]\nmax_pixels: 200000\nqueue: 12\n"
    )
    words = ["water", f"flood={model_folder}", "prithvi_hls_tiny", "--config", "service.yml"]
    made = Service(folder, words).start()
    yield made
    made.kill()


def test_a_scene_is_mapped_while_the_client_waits(service: Service) -> None:
    answer = service.execute("map-water", INPUTS)
    assert answer.status == 200, answer.body
    fits(answer.json, RESULTS)
    results = answer.json
    assert results["map"]["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    with rasterio.open(f"/vsicurl/{results['map']['href']}") as raster:  # in ranges, as a COG is read
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.tags()["PRITHVI_INPUT"] == "spain.tif"
        classes = raster.read(1)
    assert sum(results["summary"]["value"]["pixels"].values()) == np.count_nonzero(classes != 255)
    item = pystac.Item.from_dict(service.get(results["item"]["href"]).json)
    item.set_self_href(results["item"]["href"])
    assert item.datetime is not None
    assert item.datetime.date().isoformat() == "2019-09-18"
    for asset in item.assets.values():
        assert service.get(asset.get_absolute_href()).status == 200
    part = service.get(results["map"]["href"], Range="bytes=0-3")
    assert (part.status, part.body) == (206, b"II*\x00")


def test_the_map_is_that_of_the_command_line(service: Service, tmp_path: Path, prithvi: Any) -> None:
    href = service.execute("map-water", INPUTS).json["map"]["href"]
    words = ["--sensor", "sentinel-2-l1c", "--date", "2019-09-18", "--bbox", "-0.77", "38.09", "-0.765", "38.095"]
    assert prithvi("map", "water", SPAIN, "-o", tmp_path, *words).code == 0
    with (
        rasterio.open(io.BytesIO(service.get(href).body)) as served,
        rasterio.open(tmp_path / f"{SPAIN.stem}.tif") as own,
    ):
        assert np.array_equal(served.read(), own.read())
        assert served.transform == own.transform


def test_owslib_describes_executes_and_polls(service: Service) -> None:
    client = pytest.importorskip("owslib.ogcapi.processes").Processes(service.url)
    assert {each["id"] for each in client.processes()} == {
        "map-water", "map-flood", "embed-prithvi_hls_tiny", "fill-prithvi_hls_tiny",
    }  # fmt: skip
    about = client.process("map-water")
    assert about["inputs"]["scene"]["minOccurs"] == 1
    assert "land, water" in about["description"]
    results = client.execute("map-water", INPUTS)
    assert set(results) == {"map", "item", "polygons", "style", "metadata", "summary"}
    later = client.execute("map-water", INPUTS, async_=True)
    assert service.ended(later["jobID"])["status"] == "successful"


def test_a_client_made_of_the_published_api_document_reads_every_answer(service: Service) -> None:
    """Its models are generated from OGC's OpenAPI document of Part 1, 1.0, and refuse what does not fit."""
    client = pytest.importorskip("ogc_api_processes_client")
    models = importlib.import_module("ogc_api_processes_client.models")
    with client.ApiClient(client.Configuration(host=service.url)) as api:
        kinds = {name: getattr(client, name)(api) for name in dir(client) if name.endswith("Api")}
        assert kinds["CapabilitiesApi"].get_landing_page().links
        classes = kinds["ConformanceDeclarationApi"].get_conformance_classes().conforms_to
        assert "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core" in classes
        assert len(kinds["ProcessListApi"].get_processes().processes) == 4
        about = kinds["ProcessDescriptionApi"].get_process_description("map-water")
        assert about.inputs["scene"].max_occurs is not None
        assert about.output_transmission == ["reference"]
        assert about.job_control_options == ["sync-execute", "async-execute"]
        started = service.execute("map-water", INPUTS, later=True)
        job = models.StatusInfo.from_dict(started.json).job_id
        service.ended(job)
        assert kinds["StatusApi"].get_status(job).status == "successful"
        assert any(each.job_id == job for each in kinds["JobListApi"].get_jobs().jobs)
        results = kinds["ResultApi"].get_result(job)
        assert set(results) <= set(about.outputs)
        assert results["map"].actual_instance.href.endswith("spain.tif")
        assert kinds["DismissApi"].dismiss(job).status == "dismissed"
    assert service.get(f"/jobs/{job}").status == 404


def test_a_job_has_a_status_a_location_and_results(service: Service) -> None:
    started = service.execute("map-flood", {**INPUTS, "bands": [2, 3, 4, 9, 12, 13], "confidence": True}, later=True)
    assert started.status == 201, started.body
    assert started.headers["Preference-Applied"] == "respond-async"
    fits(started.json, STATUS)
    job = started.json["jobID"]
    assert started.headers["Location"] == f"{service.url}/jobs/{job}"
    early = service.get(f"/jobs/{job}/results?f=json")
    assert early.status in (200, 404)
    fits(service.get(f"/jobs/{job}?f=json").json, STATUS)
    fits(service.ended(job), STATUS)
    listed = service.get("/jobs?f=json").json
    fits(listed, {"required": ["jobs", "links"], "properties": {"jobs": {"items": STATUS}}})
    results = service.get(f"/jobs/{job}/results?f=json")
    assert results.status == 200
    fits(results.json, RESULTS)
    assert results.json["confidence"]["title"] == "spain_confidence.tif"
    assert service.get(f"/jobs/{job}?f=html", Accept="text/html").status == 200


def test_embeddings_and_a_filled_series(service: Service, write_tif: Any, six_bands: np.ndarray) -> None:
    scenes = service.folder / "scenes"
    for day, hole in (("2022-05-01", 0), ("2022-05-11", 20), ("2022-05-21", 0)):
        pixels = six_bands[:, :64, :64].copy()
        pixels[:, hole : 2 * hole] = 0
        path = write_tif(pixels, f"{day}.tif", nodata=0)
        path.rename(scenes / path.name)
    dates = sorted(path.name for path in scenes.glob("2022*.tif"))
    embedded = service.execute("embed-prithvi_hls_tiny", {"scene": dates[0]})
    assert embedded.status == 200, embedded.body
    with rasterio.open(io.BytesIO(service.get(embedded.json["embeddings"]["href"]).body)) as raster:
        assert raster.count == 96
    days = [name.removesuffix(".tif") for name in dates]
    filled = service.execute("fill-prithvi_hls_tiny", {"scene": dates, "dates": days, "uncertainty": False})
    assert filled.status == 200, filled.body
    assert filled.json["summary"]["value"]["pixels"]["filled"] > 0
    assert {"2022-05-11.tif", "2022-05-11_filled.tif"} <= {
        link["title"] for link in filled.json["dates"]["value"]["links"]
    }


def test_ten_jobs_at_once_are_all_done(service: Service) -> None:
    with ThreadPoolExecutor(10) as pool:
        started = list(pool.map(lambda _: service.execute("map-water", INPUTS, later=True), range(10)))
    assert [each.status for each in started] == [201] * 10
    jobs = {each.json["jobID"] for each in started}
    assert len(jobs) == 10
    assert {service.ended(job)["status"] for job in jobs} == {"successful"}
    hrefs = [service.get(f"/jobs/{job}/results?f=json").json["map"]["href"] for job in jobs]
    assert len({service.get(href).body for href in hrefs}) == 1


def refused(answer: Reply, status: int) -> str:
    assert answer.status == status, answer.body
    fits(answer.json, EXCEPTION)
    for word in ("/tmp", "/home", "/root", "/work", "site-packages", "Traceback"):
        assert word not in answer.body.decode(), answer.body
    return str(answer.json["detail"])


@pytest.mark.parametrize(
    ("inputs", "status", "said"),
    [
        ({"scene": "/etc/passwd"}, 403, "not in a folder that this service reads"),
        ({"scene": "file:///etc/passwd"}, 403, "not in a folder"),
        ({"scene": "../log"}, 403, "not in a folder"),
        ({"scene": "s3://bucket/a.tif"}, 403, "s3 addresses are not taken"),
        ({"scene": {"href": "https://example.org/a.tif"}}, 403, "not among the hosts"),
        ({"scene": "http://169.254.169.254/latest"}, 403, "not among the hosts"),
        ({"scene": "none.tif"}, 400, "there is no file none.tif"),
        ({}, 400, "input scene is missing"),
        ({"scene": "spain.tif", "device": "cuda"}, 400, "there is no input 'device'"),
        ({"scene": "spain.tif", "bbox": [1, 2, 3]}, 400, "input bbox is not as described"),
        ({"scene": 5}, 400, "input scene is not as described"),
        ({"scene": "spain.tif", "sensor": "sentinel-2-l1c"}, 413, "262,144 pixels .* takes 200,000: ask for a smaller"),
        ({**INPUTS, "scale": 0}, 400, "a scale of 0 was given"),
        ({"scene": "unnamed.tif"}, 400, "swir_2: bands with the number in the file of each"),
        ({**BROAD, "dates": ["2019-09-18"]}, 400, "trained on: accept nir_broad uses it all the same"),
        ({**INPUTS, "level": "L2"}, 400, "input level is not as described"),
        ({**INPUTS, "bands": [1, 2]}, 400, "bands has 2 numbers; this model wants one each"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(service: Service, inputs: Any, status: int, said: str) -> None:
    import re

    assert re.search(said, refused(service.execute("map-water", inputs), status))


def test_what_a_refusal_names_is_an_input(service: Service) -> None:
    answer = service.execute("map-water", {**BROAD, "accept": ["nir_broad"]})
    assert answer.status == 200, answer.body
    with rasterio.open(f"/vsicurl/{answer.json['map']['href']}") as raster:
        assert raster.tags()["PRITHVI_ACCEPTED"] == "nir_broad"


def test_requests_that_are_none_are_refused(service: Service) -> None:
    long = {**INPUTS, "scene": ["spain.tif" * 100] * 2000}
    assert service.execute("map-water", long).status == 413
    assert "callbacks" in refused(
        service.execute("map-water", INPUTS, subscriber={"successUri": "http://169.254.169.254/"}), 400
    )
    assert service.execute("map-none", INPUTS).status == 404
    assert service.ask("POST", "/processes/map-water/execution", b"{").status == 400
    for path in ("/jobs/none", "/results/none/a.tif", "/results/../service.yml", "/jobs/..%2f..", "/none"):
        assert service.get(path).status == 404


def test_a_job_that_fails_says_why_also_in_its_results(service: Service) -> None:
    job = service.execute("map-water", {"scene": "spain.tif", "sensor": "sentinel-2-l1c"}, later=True).json["jobID"]
    status = service.ended(job)
    assert status["status"] == "failed"
    assert "this service takes 200,000" in status["message"]
    assert refused(service.get(f"/jobs/{job}/results?f=json"), 413) == status["message"]
    assert sorted(path.name for path in (service.folder / "service" / "jobs" / job).iterdir()) == ["job.json"]


def test_a_file_that_names_others_is_no_scene_whatever_it_is_called(service: Service) -> None:
    source = f"<SimpleSource><SourceFilename>{SPAIN}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    place = "<SRS>EPSG:32630</SRS><GeoTransform>600000,10,0,4200000,0,-10</GeoTransform>"
    band = f'<VRTRasterBand dataType="Int16" band="1">{source}'
    vrt = f'<VRTDataset rasterXSize="512" rasterYSize="512">{place}{band}'
    for name in ("names.tif", "names.vrt", "names.jp2"):
        (service.folder / "scenes" / name).write_text(f"{vrt}</VRTRasterBand></VRTDataset>")
        with rasterio.open(service.folder / "scenes" / name) as raster:  # which GDAL reads elsewhere
            assert raster.read(1).any()
        assert name in refused(service.execute("map-water", {**INPUTS, "scene": name}), 400)


def test_an_item_is_read_as_far_as_its_files_are_allowed(service: Service, web: Served) -> None:
    bands = [{"name": name} for name in ("B02", "B03", "B04", "B8A", "B11", "B12")]
    (service.folder / "scenes" / "item.json").write_text(
        pystac_item({"data": (f"{web.url}/far.tif", bands), "secret": ("/etc/passwd", [])})
    )
    outside = service.folder / "outside.tif"
    outside.write_bytes(SPAIN.read_bytes())
    (service.folder / "scenes" / "away.json").write_text(pystac_item({"data": (str(outside), bands)}))
    assert "outside.tif is not in a folder" in refused(service.execute("map-water", {"scene": "away.json"}), 403)


def test_the_mask_of_an_item_is_read_where_it_is_allowed(
    service: Service, write_tif: Any, six_bands: np.ndarray
) -> None:
    scenes = service.folder / "scenes"
    bands = [{"name": name} for name in ("B02", "B03", "B04", "B8A", "B11", "B12")]
    fmask = np.zeros((1, 64, 64), np.uint8)
    fmask[0, 10:20, 10:30] = 2
    mask = write_tif(fmask, "HLS.S30.T30SXH.2019254T105621.v2.0.Fmask.tif", names=None, scale=None, nodata=None)
    far = shutil.copy(mask, service.folder)
    own = shutil.move(mask, scenes)
    for day in (1, 11, 21):
        write_tif(six_bands[:, :64, :64], f"dated{day}.tif").rename(scenes / f"dated{day}.tif")
        for name, mask in (("own", own), ("far", far)):
            assets = {"data": (f"dated{day}.tif", bands), **({"Fmask": (str(mask), [])} if day == 11 else {})}
            (scenes / f"{name}{day}.json").write_text(pystac_item(assets, day))
    asked = {"sensor": "sentinel-2-l1c", "uncertainty": False}
    told = service.execute("fill-prithvi_hls_tiny", {"scene": [f"far{day}.json" for day in (1, 11, 21)], **asked})
    assert "Fmask.tif is not in a folder" in refused(told, 403)
    # Given in another order than that of their dates.
    made = service.execute("fill-prithvi_hls_tiny", {"scene": [f"own{day}.json" for day in (11, 21, 1)], **asked})
    assert made.status == 200, made.body
    assert made.json["summary"]["value"]["pixels"] == {"observed": 3 * 64 * 64 - 200, "filled": 200, "empty": 0}
    assert made.json["summary"]["value"]["dates"] == ["2019-09-01", "2019-09-11", "2019-09-21"]


def pystac_item(assets: dict[str, tuple[str, list[dict[str, str]]]], day: int = 18) -> str:
    import datetime as dt
    import json

    item = pystac.Item(f"S2A_30SXH_201909{day:02}_0_L1C", None, None, dt.datetime(2019, 9, day), {})
    for name, (href, bands) in assets.items():
        asset = pystac.Asset(href, media_type="image/tiff", extra_fields={"bands": bands})
        item.add_asset(name, asset)
    return json.dumps(item.to_dict())


def test_a_redirect_to_another_host_is_refused_in_the_job(service: Service, web: Served) -> None:
    inputs = {**INPUTS, "scene": {"href": f"{web.url}/far.tif"}}
    assert service.execute("map-water", inputs).status == 200
    web.redirect = f"http://localhost:{web.url.rpartition(':')[2]}"
    try:
        said = refused(service.execute("map-water", {**inputs, "scene": f"{web.url}/far.tif?again=1"}), 403)
    finally:
        web.redirect = None
    assert said == "localhost is not among the hosts that this service reads from."


def test_the_server_is_small_and_holds_no_torch(service: Service) -> None:
    assert service.process is not None
    health = service.get("/health").json
    maps = Path(f"/proc/{service.process.pid}/maps")
    if not maps.is_file():
        pytest.skip("needs /proc")
    assert not [line for line in maps.read_text().splitlines() if "libtorch" in line or "libgdal" in line]
    assert health["memory"]["service"] < 300e6
    assert health["status"] == "ok"


def test_pages_for_people_and_the_api_document(service: Service) -> None:
    for path in ("/", "/processes", "/processes/map-water", "/jobs", "/conformance"):
        page = requests.get(f"{service.url}{path}", params={"f": "html"}, timeout=30)
        assert page.status_code == 200
        assert "<html" in page.text
    document = service.get("/openapi?f=json").json
    assert "/processes/map-water/execution" in document["paths"]
    assert os.fspath(service.folder) not in str(document)
