"""Jobs on disk where the disk takes no more, or the service was ended between two files."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from prithvi.errors import OutputError
from prithvi.service.crew import Crew, unwritable
from prithvi.service.job_store import Jobs
from prithvi.service.settings import Settings
from tests.faults.places import small_disk


def test_what_a_full_disk_does_not_take_is_known_until_it_does(tmp_path: Path) -> None:
    disk, job = tmp_path / "disk", str(uuid.uuid4())
    disk.mkdir()
    try:
        with small_disk(disk, 1 << 20):
            jobs = Jobs(disk)
            jobs.write(job, identifier=job, status="running", created="1")
            filler = disk / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(1 << 20))
            with pytest.raises(OutputError, match=r"job\.json cannot be written \(No space left") as stop:
                jobs.write(job, status="failed")
            assert unwritable(stop.value) == (
                "the service has no room for this job (No space left on device): ask again later.",
                507, "NoApplicableCode",
            )  # fmt: skip
            jobs.note(job, status="failed")
            assert jobs.read(job)["status"] == jobs.all()[0]["status"] == "failed"
            assert Jobs(disk).read(job)["status"] == "running"  # one that is started anew begins it again
            filler.unlink()
            jobs.write(job, message="later")
            assert Jobs(disk).read(job)["status"] == "failed"
    except PermissionError as error:
        pytest.skip(str(error))


def test_results_that_were_moved_before_the_service_ended_are_made_again(tmp_path: Path) -> None:
    jobs, job = Jobs(tmp_path), str(uuid.uuid4())
    jobs.write(job, identifier=job, status="running")
    for text in ("first", "second"):
        (jobs.begin(job) / "a.tif").write_text(text)
        jobs.publish(job)
    assert (jobs.result(job) / "a.tif").read_text() == "second"
    assert not jobs.work(job).exists()


def test_a_worker_that_died_before_it_read_is_put_away(tmp_path: Path) -> None:
    crew = Crew(Settings((), state=tmp_path), Jobs(tmp_path))
    command = [sys.executable, "-c", ""]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.wait()
    assert process.stdin is not None
    process.stdin.write("a job\n")
    crew._end(process)
    assert process.stdin.closed
    assert process.stdout is not None
    assert process.stdout.closed
