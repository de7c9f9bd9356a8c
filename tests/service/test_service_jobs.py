"""Jobs through kills, a full queue, dismissal, idleness and a worker that dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.conftest import Answer
from tests.service_client import Service

pytest.importorskip("pygeoapi", reason="needs pygeoapi: pip install 'prithvi[serve]'")

QUICK = {"scene": "small.tif", "dates": ["2022-05-31"]}
SLOW = {"scene": "large.tif", "dates": ["2022-05-31"], "polygons": "none"}


@pytest.fixture
def service(
    tmp_path: Path, model_folder: Path, write_tif: Callable[..., Path], six_bands: np.ndarray
) -> Iterator[Service]:
    (tmp_path / "scenes").mkdir()
    write_tif(six_bands[:, :64, :64], "scenes/small.tif")
    write_tif(np.tile(six_bands, (1, 2, 2)), "scenes/large.tif")
    made = Service(tmp_path, [f"flood={model_folder}", "--folder", "scenes", "--queue", "2", "--idle", "3"]).start()
    yield made
    made.kill()


def files(service: Service, job: str) -> set[str]:
    folder = service.folder / "service" / "jobs" / job
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def started(service: Service, inputs: Any, percent: int = -1) -> str:
    """A job that has come so far."""
    answer = service.execute("map-flood", inputs, later=True)
    assert answer.status == 201, answer.body
    job = str(answer.json["jobID"])
    while percent >= 0:
        status = service.get(f"/jobs/{job}?f=json").json
        assert status["status"] in ("accepted", "running"), status
        if status["status"] == "running" and status["progress"] >= percent:
            break
        time.sleep(0.05)
    return job


@pytest.mark.slow
def test_a_kill_loses_no_job_and_leaves_nothing_half_done(service: Service, prithvi: Callable[..., Answer]) -> None:
    done = started(service, QUICK)
    assert service.ended(done)["status"] == "successful"
    before = files(service, done)
    running, waiting = started(service, SLOW, percent=10), started(service, QUICK)
    service.kill()
    assert not any(name.startswith("result/") for job in (running, waiting) for name in files(service, job))
    assert not any(name.startswith("work/large") for name in files(service, running))
    service.start()
    assert service.get(f"/jobs/{done}?f=json").json["status"] == "successful"
    assert files(service, done) == before
    assert service.ended(running)["status"] == "successful"
    assert service.ended(waiting)["status"] == "successful"
    words = ["--date", "2022-05-31", "--polygons", "none"]
    model = service.words[0].partition("=")[2]
    assert (
        prithvi("map", model, service.folder / "scenes" / "large.tif", "-o", service.folder / "own", *words).code == 0
    )
    folder = service.folder / "service" / "jobs" / running / "result"
    with rasterio.open(folder / "large.tif") as resumed, rasterio.open(service.folder / "own" / "large.tif") as own:
        assert np.array_equal(resumed.read(), own.read())
    assert not (folder.parent / "work").exists()


@pytest.mark.slow
def test_a_job_during_which_the_service_ends_twice_has_failed(service: Service) -> None:
    job = started(service, SLOW, percent=3)
    service.kill()
    service.start()
    while service.get(f"/jobs/{job}?f=json").json["status"] != "running":
        time.sleep(0.05)
    service.kill()
    half = service.folder / "service" / "jobs" / job / ".job-half"  # a kill while the record was written
    half.mkdir()
    (half / "job.json").write_text("{")
    service.start()
    status = service.get(f"/jobs/{job}?f=json").json
    assert (status["status"], status["message"]) == ("failed", "the service was ended while this job ran; ask again.")
    assert files(service, job) == {"job.json"}
    assert service.execute("map-flood", QUICK).status == 200


@pytest.mark.slow
def test_a_full_queue_says_when_to_ask_again_and_a_dismissed_job_makes_room(service: Service) -> None:
    running = started(service, SLOW, percent=0)
    waiting = [started(service, QUICK) for _ in range(2)]
    for later in (True, False):
        full = service.execute("map-flood", QUICK, later)
        assert full.status == 503
        assert int(full.headers["Retry-After"]) >= 1
        assert full.json["detail"].startswith("1 jobs run and 2 wait, which is all that this service takes")
    assert service.get("/health").json["waiting"] == 2
    assert len(service.get("/jobs?f=json").json["jobs"]) == 3  # a refused request is no job
    gone = service.ask("DELETE", f"/jobs/{running}")
    assert (gone.status, gone.json["status"]) == (200, "dismissed")
    assert service.get(f"/jobs/{running}").status == 404
    assert not (service.folder / "service" / "jobs" / running).exists()
    assert {service.ended(job)["status"] for job in waiting} == {"successful"}


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_job_alone(service: Service) -> None:
    running, waiting = started(service, SLOW, percent=3), started(service, QUICK)
    assert service.process is not None
    children = Path(f"/proc/{service.process.pid}/task")
    found = [int(word) for task in children.iterdir() for word in (task / "children").read_text().split()]
    assert len(found) == 1
    os.kill(found[0], signal.SIGKILL)
    status = service.ended(running)
    assert status["status"] == "failed"
    assert "its process was killed, as happens where memory ends" in status["message"]
    assert files(service, running) == {"job.json"}
    assert service.ended(waiting)["status"] == "successful"


@pytest.mark.slow
def test_an_idle_worker_gives_its_memory_back(service: Service) -> None:
    assert service.execute("map-flood", QUICK).status == 200
    assert len(service.get("/health").json["memory"]["workers"]) == 1
    until = time.monotonic() + 30
    while service.get("/health").json["memory"]["workers"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert service.execute("map-flood", QUICK).status == 200


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_stopped(service: Service) -> None:
    service.kill()
    service.words += ["--timeout", "4"]
    service.start()
    status = service.ended(started(service, SLOW))
    assert status["message"] == "stopped after 4 seconds, the most that a job may take."


def test_a_second_service_in_one_state_folder_is_refused(service: Service, prithvi: Callable[..., Answer]) -> None:
    answer = prithvi("serve", "water", "--state", service.folder / "service", "--port", "1")
    assert answer.code == 2
    assert "another service writes into" in answer.err
