"""The application of Flask that pygeoapi makes, with health, files of results, and answers as OGC has them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import prithvi
from prithvi.errors import ConfigError, OutputError, needs
from prithvi.files import dumps, write_text
from prithvi.service.crew import Crew, memory_of
from prithvi.service.descriptions import processes
from prithvi.service.job_store import Jobs

if TYPE_CHECKING:
    from flask import Flask, Response

    from prithvi.service.settings import Settings

_LARGEST_REQUEST = 1_000_000
"""Bytes of a request's body."""
_CUT_OFF = 20_000_000
"""Bytes after which a connection is closed. What lies between is read, since a client that is still sending would see a
broken connection instead of the refusal."""


def configuration(settings: Settings) -> dict[str, Any]:
    """What pygeoapi is configured with."""
    title = "Maps by " + ", ".join(model.name for model in settings.models)
    about = {"title": title, "description": "Models of prithvi as processes.", "keywords": ["prithvi"],
             "keywords_type": "theme", "terms_of_service": "", "url": settings.address}  # fmt: skip
    name = "prithvi.service.manager"
    return {
        "server": {
            "bind": {"host": settings.host, "port": settings.port},
            "url": settings.address,
            "mimetype": "application/json; charset=UTF-8", "encoding": "utf-8", "gzip": False,
            "languages": ["en-US"], "pretty_print": True, "limits": {"default_items": 20, "max_items": 1000},
            "map": {"url": "", "attribution": ""},
            "manager": {"name": f"{name}.Manager"},
        },
        "logging": {"level": "ERROR"},
        "metadata": {
            "identification": about, "license": {"name": "", "url": settings.address},
            "provider": {"name": "", "url": settings.address}, "contact": {"name": ""},
        },
        "resources": {
            process: {"type": "process", "processor": {"name": f"{name}.Processor", "process": process}}
            for process in processes(settings)
        },
    }  # fmt: skip


def application(settings: Settings) -> tuple[Flask, Crew]:
    """The application and its crew, which is not started yet. A process has one.

    Raises:
        MissingExtraError: pygeoapi is not installed.
        ConfigError: another service has this state folder.
        OutputError: the state folder cannot be written.

    """
    with needs("a service", "serve"):
        import flask
        import pygeoapi  # noqa: F401
        import yaml
        from filelock import FileLock, Timeout

    from prithvi.service import manager

    state = settings.state
    try:
        (state / "jobs").mkdir(parents=True, exist_ok=True)
        lock = FileLock(state / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"another service writes into {state}: end it, or say another --state.") from None
    except OSError as error:
        raise OutputError(f"{state} cannot be written ({error.strerror}): say another --state.") from error
    jobs = Jobs(state)
    crew = Crew(settings, jobs)
    manager.use(settings, crew)
    plain = configuration(settings)
    file, document = state / "pygeoapi.yml", state / "openapi.json"
    write_text(file, yaml.safe_dump(plain, sort_keys=False))

    from pygeoapi.openapi import get_oas

    write_text(document, dumps(get_oas(plain), indent=1))
    # pygeoapi reads them when its application is imported.
    os.environ.update(PYGEOAPI_CONFIG=str(file), PYGEOAPI_OPENAPI=str(document))
    from pygeoapi.flask_app import APP

    app: flask.Flask = APP
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST_REQUEST
    app.extensions["prithvi"] = lock  # held as long as the application is there
    _routes(app, settings, crew, jobs)
    return app, crew


def _routes(app: Flask, settings: Settings, crew: Crew, jobs: Jobs) -> None:
    import flask

    def health() -> dict[str, Any]:
        """Whether all is well, what runs, and the memory of the processes."""
        workers = {str(pid): memory_of(pid) for pid in crew.loaded}
        return {
            "status": "ok", "version": prithvi.__version__, "running": len(crew.running),
            "waiting": len(crew.waiting), "queue": settings.queue,
            "memory": {"service": memory_of(os.getpid()), "workers": list(workers.values())},
        }  # fmt: skip

    def result(job: str, name: str) -> Response:
        """A file of a result, whole or in ranges."""
        try:
            folder = jobs.result(job)
        except KeyError:
            flask.abort(404)
        return flask.send_from_directory(folder.resolve(), name, conditional=True)

    def as_published(answer: Response) -> Response:
        return _as_published(answer, crew, jobs)

    def too_long(_: Exception) -> tuple[dict[str, Any], int]:
        said = f"a request has at most {_LARGEST_REQUEST:,} bytes."
        return {"code": "TooLarge", "type": "TooLarge", "description": said}, 413

    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/results/<job>/<name>", view_func=result)
    app.after_request(as_published)
    app.register_error_handler(413, too_long)


def _as_published(answer: Response, crew: Crew, jobs: Jobs) -> Response:
    """An answer as the published schemas have it, where pygeoapi's differs.

    Its jobs have null where a member is not known, which the schema of a status has not, and a dismissed one no type;
    results of a failed job do not say why. In its version 0.21 the answer to an asynchronous request is no status, and
    every process is said to give values, where ours give links.
    """
    from flask import request
    from werkzeug.datastructures import Headers

    answer.headers = Headers(answer.headers)  # pygeoapi puts a plain dictionary there
    endpoint, view = (request.endpoint or "").rpartition(".")[2], request.view_args or {}
    if request.method == "DELETE":
        answer.headers["Content-Type"] = "application/json"
    if answer.status_code == 503:
        answer.headers["Retry-After"] = str(crew.retry_after())
    if answer.is_streamed or not answer.is_json or not request.path.startswith(("/jobs", "/processes")):
        return answer
    plain = json.loads(answer.get_data())
    if answer.status_code == 201:
        job = answer.headers["Location"].rpartition("/")[2]
        record = jobs.read(job)
        plain = {"jobID": job, "processID": record["process_id"], "type": "process", "status": "accepted",
                 "message": record["message"], "created": record["created"]}  # fmt: skip
    elif request.method == "DELETE" and answer.status_code == 200:
        plain["type"] = "process"
    elif endpoint == "get_job_result" and answer.status_code == 400:
        record = jobs.read(view["job_id"])
        failure = record.get("failure", {"status": 400, "code": "NoApplicableCode"})
        answer.status_code = failure["status"]
        plain = {"code": failure["code"], "type": failure["code"], "description": record["message"]}
    elif answer.status_code == 200 and request.path.startswith("/processes") and request.method == "GET":
        for process in plain.get("processes", [plain]):
            process["outputTransmission"] = ["reference"]
    elif answer.status_code == 200 and endpoint == "get_jobs":
        for job in plain.get("jobs", [plain]):
            if job.get("status") == "accepted":  # pygeoapi sorts by it, so that every job has one
                job.pop("started", None)
        plain = _known(plain)
    if answer.status_code >= 400 and isinstance(plain, Mapping) and "description" in plain:
        plain = {"title": plain.get("code"), "status": answer.status_code, "detail": plain["description"], **plain}
    answer.set_data(dumps(plain, indent=2))
    return answer


def _known(plain: Any) -> Any:
    """Without members that are null."""
    if isinstance(plain, dict):
        return {name: _known(value) for name, value in plain.items() if value is not None}
    return [_known(value) for value in plain] if isinstance(plain, list) else plain


def run(settings: Settings, ready: Any = None) -> None:
    """Serves until it is interrupted.

    Args:
        settings: what and where.
        ready: called once it listens.

    Raises:
        MissingExtraError, ConfigError, OutputError: see `application`; or the port is taken.

    """
    with needs("a service", "serve"):
        import waitress

    app, crew = application(settings)
    logging.getLogger("waitress").setLevel(logging.ERROR)
    logging.getLogger("pygeoapi.api").setLevel(logging.CRITICAL)  # it logs each refusal with a traceback
    # A synchronous request holds a thread while its job waits and runs; some more answer everything else.
    try:
        server = waitress.create_server(
            app, host=settings.host, port=settings.port, threads=settings.workers + settings.queue + 6, ident="prithvi",
            max_request_body_size=_CUT_OFF,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"{settings.host} port {settings.port} cannot be listened on ({error.strerror}): say another --port."
        ) from error
    crew.start()
    if ready is not None:
        ready()
    server.run()
