"""Jobs on disk: a folder each, with `job.json`, `work/` while it runs and `result/` when it is whole.

A file is replaced as a whole, so that a process that is killed leaves every job as it was before or after.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from prithvi.errors import ConfigError, OutputError
from prithvi.files import dumps, read_json, write_text

RECORD = "job.json"
_ID = re.compile(r"[0-9a-f-]{36}")
ENDED = ("successful", "failed", "dismissed")


def now() -> str:
    """The time in UTC as RFC 3339 writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Jobs:
    """All jobs of a state folder."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "jobs"
        self._unwritten: dict[str, dict[str, Any]] = {}
        """Changes that a full disk did not take; known to this process alone."""

    def path(self, job: str) -> Path:
        """The folder of a job; KeyError of what cannot be its id."""
        if not _ID.fullmatch(job):
            raise KeyError(job)
        return self.folder / job

    def read(self, job: str) -> dict[str, Any]:
        """What is known of a job; KeyError if there is none."""
        try:
            return read_json(self.path(job) / RECORD) | self._unwritten.get(job, {})
        except (ConfigError, OSError):
            raise KeyError(job) from None

    def write(self, job: str, **changes: Any) -> dict[str, Any]:
        """Changes a job, or makes one.

        Raises:
            OutputError: the disk is full, or the folder cannot be written; the job is as before.

        """
        try:
            plain = self.read(job)
        except KeyError:
            plain = {}
        plain |= {**changes, "updated": now()}
        write_text(self.path(job) / RECORD, dumps(plain, indent=1), sync=True)
        self._unwritten.pop(job, None)
        return plain

    def note(self, job: str, **changes: Any) -> None:
        """As `write`, of what has happened already: where the disk does not take it, this process knows it still.

        A service that is started anew finds such a job as it was, and begins it again.
        """
        try:
            self.write(job, **changes)
        except OutputError:
            self._unwritten.setdefault(job, {}).update(changes)

    def all(self) -> list[dict[str, Any]]:
        """Every job, the youngest first. What cannot be read is left out."""
        found = []
        for path in self.folder.glob(f"*/{RECORD}"):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")) | self._unwritten.get(path.parent.name, {}))
            except (OSError, ValueError, TypeError):
                continue
        return sorted(found, key=lambda job: str(job.get("created", "")), reverse=True)

    def tidy(self) -> None:
        """Removes what a service that was killed left beside the jobs' records: half a record, half a removal."""
        for path in self.folder.iterdir():
            if not (path / RECORD).is_file():
                shutil.rmtree(path, ignore_errors=True)
            for part in path.glob(".*"):
                shutil.rmtree(part, ignore_errors=True)

    def remove(self, job: str) -> None:
        """A job with its results."""
        path = self.path(job)
        (path / RECORD).unlink(missing_ok=True)
        self._unwritten.pop(job, None)
        shutil.rmtree(path, ignore_errors=True)

    def result(self, job: str) -> Path:
        """The folder of the results."""
        return self.path(job) / "result"

    def work(self, job: str) -> Path:
        """The folder that becomes the one of the results."""
        return self.path(job) / "work"

    def begin(self, job: str) -> Path:
        """Makes the folder of `work`, unless a service that was ended left it.

        Raises:
            OutputError: it cannot be made.

        """
        try:
            self.work(job).mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"the job's folder cannot be made ({error.strerror}).") from error
        return self.work(job)

    def publish(self, job: str) -> None:
        """Gives the results their final name.

        Raises:
            OutputError: they cannot be moved.

        """
        # A service that was ended after this, and before the job's record said so, makes them a second time.
        shutil.rmtree(self.result(job), ignore_errors=True)
        try:
            self.work(job).rename(self.result(job))
        except OSError as error:
            raise OutputError(f"the results cannot be moved into place ({error.strerror}).") from error

    def prune(self, days: float) -> None:
        """Removes jobs that ended longer ago."""
        oldest = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for job in self.all():
            if job.get("status") in ENDED and str(job.get("finished") or "") < oldest:
                with suppress(OSError):  # one that cannot be removed now can be later
                    self.remove(job["identifier"])
