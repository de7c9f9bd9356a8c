"""What pygeoapi asks of a service: its processes, and its jobs, which live on disk and run in the crew."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import has_request_context, request
from pygeoapi.process.base import (
    BaseProcessor,
    JobNotFoundError,
    JobResultNotFoundError,
    ProcessorExecuteError,
)
from pygeoapi.process.manager.base import BaseManager
from pygeoapi.util import JobStatus, RequestedProcessExecutionMode

from prithvi.errors import OutputError, PrithviError
from prithvi.service.crew import Crew, unwritable
from prithvi.service.descriptions import COG, GEOJSON, PARQUET, checked, description, processes
from prithvi.service.job_store import Jobs, now
from prithvi.service.settings import RefusedError

if TYPE_CHECKING:
    from prithvi.service.settings import Settings

_JSON = "application/json"
_MEDIA = {
    ".tif": COG, ".json": GEOJSON, ".parquet": PARQUET,
    ".gpkg": "application/geopackage+sqlite3", ".qml": "application/xml", ".xml": "application/xml",
}  # fmt: skip
_service: dict[str, Any] = {}
"""The one of this process: pygeoapi makes managers and processors by their names alone."""


def use(settings: Settings, crew: Crew) -> None:
    """Says what this process serves, before pygeoapi is loaded."""
    _service.update(settings=settings, crew=crew)


def links(job: str, results: dict[str, Any], address: str) -> dict[str, Any]:
    """What a job gives: a file as a link, and several, which are no value of their own in the standard, in one."""

    def link(name: str) -> dict[str, str]:
        kind = _MEDIA.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
        return {"href": f"{address}/results/{job}/{name}", "type": kind, "title": name}

    found: dict[str, Any] = {"summary": {"value": results["summary"], "mediaType": _JSON}}
    for name, made in results.items():
        if name != "summary":
            many = {"value": {"links": list(map(link, made))}, "mediaType": _JSON} if isinstance(made, list) else None
            found[name] = many or link(made)
    return found


class _OfServiceError(ProcessorExecuteError):  # type: ignore[misc]
    """A refusal as pygeoapi tells it."""

    def __init__(self, refusal: RefusedError) -> None:
        super().__init__(user_msg=str(refusal))
        self.http_status_code, self.ogc_exception_code = HTTPStatus(refusal.status), refusal.code


class Processor(BaseProcessor):  # type: ignore[misc]
    """A process; the work itself is done by the crew."""

    def __init__(self, processor_def: dict[str, Any]) -> None:
        self.process = processor_def["process"]
        self.model, self.kind = processes(_service["settings"])[self.process]
        super().__init__(processor_def, description(self.process, self.model, self.kind, _service["settings"]))


class Manager(BaseManager):  # type: ignore[misc]
    """Of the jobs; callbacks are refused, as they would ask addresses that nobody has checked."""

    def __init__(self, manager_def: dict[str, Any]) -> None:
        super().__init__(manager_def)
        self.is_async = True
        self.crew: Crew = _service["crew"]
        self.jobs: Jobs = self.crew.jobs

    def get_jobs(self, status: Any = None, limit: int | None = None, offset: int | None = None) -> dict[str, Any]:
        """Those of a page, the youngest first."""
        found = [job for job in self.jobs.all() if status is None or job["status"] == getattr(status, "value", status)]
        first = offset or 0
        return {"jobs": found[first : first + limit if limit else None], "numberMatched": len(found)}

    def add_job(self, job_metadata: dict[str, Any]) -> str:
        """Notes a job; see `BaseManager.execute_process`."""
        made = {**job_metadata, "created": now(), "progress": 0}
        self.jobs.write(job_metadata["identifier"], **made)
        return str(job_metadata["identifier"])

    def update_job(self, job_id: str, update_dict: dict[str, Any]) -> bool:
        """Changes a job."""
        self.jobs.write(job_id, **update_dict)
        return True

    def get_job(self, job_id: str) -> dict[str, Any]:
        """A job; JobNotFoundError if there is none."""
        try:
            return self.jobs.read(job_id)
        except KeyError:
            raise JobNotFoundError from None

    def get_job_result(self, job_id: str) -> tuple[str, Any]:
        """Links to what a job has made; JobResultNotFoundError if it has not."""
        job = self.get_job(job_id)
        if job["status"] != JobStatus.successful.value or not self.jobs.result(job_id).is_dir():
            raise JobResultNotFoundError
        return _JSON, links(job_id, job["results"], _service["settings"].address)

    def delete_job(self, job_id: str) -> bool:
        """Dismisses a job that waits or runs, and removes it with its results."""
        self.get_job(job_id)
        self.crew.dismiss(job_id)
        self.jobs.remove(job_id)
        return True

    def execute_process(self, process_id: str, data_dict: Any, *args: Any, **more: Any) -> Any:
        """See `BaseManager`; what is not allowed is refused before there is a job."""
        try:
            if more.get("subscriber"):
                raise RefusedError("callbacks (subscriber) are not offered: ask for the job's status.")
            inputs = checked(data_dict, self.get_processor(process_id).metadata)
            for name in ("scene", "clouds"):
                for source in inputs.get(name, ()):
                    self.crew.places.allowed(source)
        except RefusedError as refusal:
            raise _OfServiceError(refusal) from None
        if has_request_context() and "respond-async" in _preferences(request.headers.get("Prefer", "")):
            more["execution_mode"] = RequestedProcessExecutionMode.respond_async
        try:
            return super().execute_process(process_id, inputs, *args, **more)
        except OutputError as error:
            raise _OfServiceError(RefusedError(*unwritable(error))) from error

    def _execute_handler_async(self, p: Processor, job_id: str, data_dict: dict[str, Any], *_: Any, **__: Any) -> Any:
        self._submit(p, job_id, data_dict, later=True)
        return _JSON, {"jobID": job_id, "type": "process", "status": "accepted"}, JobStatus.accepted

    def _execute_handler_sync(self, p: Processor, job_id: str, data_dict: dict[str, Any], *_: Any, **__: Any) -> Any:
        self._submit(p, job_id, data_dict, later=False)
        self.crew.wait(job_id)
        try:
            job = self.jobs.read(job_id)
        except KeyError:
            raise _OfServiceError(RefusedError("this job was dismissed.", 410, "NoApplicableCode")) from None
        if job["status"] != JobStatus.successful.value:
            failure = job.get("failure", {"status": 410, "code": "NoApplicableCode"})
            raise _OfServiceError(RefusedError(job["message"], **failure))
        return _JSON, links(job_id, job["results"], _service["settings"].address), JobStatus.successful

    def _submit(self, process: Processor, job: str, inputs: dict[str, Any], later: bool) -> None:
        work = {
            "kind": process.kind, "process": process.process, "model": process.model.source,
            "bands": list(process.model.bands), "inputs": inputs,
        }  # fmt: skip
        try:
            self.jobs.write(job, request=work, message="Waiting.", **{"async": later}, mimetype=_JSON)
            self.crew.submit(job)
        except PrithviError as error:
            self.jobs.remove(job)
            if isinstance(error, RefusedError):
                raise _OfServiceError(error) from None
            raise


def _preferences(header: str) -> set[str]:
    """Names in a header of RFC 7240."""
    return {part.partition(";")[0].partition("=")[0].strip().lower() for part in header.split(",")}
