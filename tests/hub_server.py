"""The Hugging Face hub on this machine: enough of its protocol for the real huggingface_hub to pull and push.

Repositories with commits and branches, public, private and gated; large files by redirect to a store that knows ranges
and names them by SHA-256, small ones by their git hash; tokens; commits with an LFS upload; the check of a card.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from tests.http_files import serving

USER, TOKEN = "me", "hf_of_the_tests"
LARGE = (".safetensors", ".pt", ".bin", ".tar.gz")
LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "other"}
"""Some of those that the hub knows."""


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Adds files to a branch; the new commit."""
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        oid = hashlib.sha1(repr((sorted(whole.items()), len(self.commits))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = whole, oid
        return oid


@dataclass
class Hub:
    """What the server holds and saw."""

    url: str = ""
    store_url: str = ""
    """Where large files lie: another host, as on the real hub."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By id; a dataset's begins with `datasets/`."""
    store: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""
    cut_after: int | None = None
    """Bytes after which the first answer for each large file breaks off."""
    hold: bool = False
    """Whether an answer that breaks off waits before until the client has gone."""
    damage: bool = False
    """Whether large files come with a byte changed."""
    short: bool = False
    """Whether large files come without their second half, as if they were whole."""
    drops: int = 0
    """How many requests more are closed without an answer."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range) of each request."""
    cut: set[str] = field(default_factory=set)

    def add(self, name: str, files: dict[str, bytes], branch: str = "main", **options: bool) -> str:
        """Puts files into a repository, made if it is not there; the commit."""
        self.store |= {hashlib.sha256(data).hexdigest(): data for path, data in files.items() if path.endswith(LARGE)}
        return self.repositories.setdefault(name, Repository(**options)).commit(files, branch)

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        """What a branch of a repository holds."""
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


def checked(content: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of a card's metadata, by rules that the hub documents."""
    found = re.match(r"---\n(.*?)\n---\n", content, flags=re.S)
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        plain = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"metadata is not YAML: {error}"], []
    if not isinstance(plain, dict):
        return ["metadata is no table"], []
    errors = [
        f'"{key}" must be a string' for key in ("license", "library_name", "pipeline_tag", "base_model")
        if key in plain and not isinstance(plain[key], str)
    ]  # fmt: skip
    errors += [
        f'"{key}" must be a list of strings' for key in ("tags", "datasets", "metrics")
        if key in plain and not (isinstance(plain[key], list) and all(isinstance(entry, str) for entry in plain[key]))
    ]  # fmt: skip
    if plain.get("license", "mit") not in LICENCES:
        errors.append(f'"license" must be one of {sorted(LICENCES)}')
    for entry in plain.get("model-index", []):
        if not isinstance(entry.get("name"), str) or not isinstance(entry.get("results"), list):
            errors.append('"model-index" entries have a name and results')
            continue
        for result in entry["results"]:
            if not {"task", "dataset", "metrics"} <= set(result) or "type" not in result["task"]:
                errors.append('"model-index" results have a task with a type, a dataset and metrics')
            elif not {"type", "name"} <= set(result["dataset"]):
                errors.append('"model-index" datasets have a type and a name')
            elif not all({"type", "value"} <= set(metric) for metric in result["metrics"]):
                errors.append('"model-index" metrics have a type and a value')
    return errors, []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def _any(self) -> None:
        body = self._body()
        path = unquote(urlparse(self.path).path).lstrip("/")
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if self.hub.drops > 0:
            self.hub.drops -= 1
            self.close_connection = True
            return
        given = self.headers.get("Authorization")
        self.known = given == f"Bearer {TOKEN}"
        if given is not None and not self.known and not path.startswith(("store/", "api/validate-yaml")):
            self._answer(401, {}, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif found := re.fullmatch(r"store/(\w+)", path):
            self._large(found[1], body)
        elif path == "api/validate-yaml":
            errors, warnings = checked(json.loads(body)["content"])
            told = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
            self._answer(400 if errors else 200, told)
        elif path == "api/whoami-v2":
            self._answer(200 if self.known else 401, {"name": USER, "type": "user", "orgs": []})
        elif path == "api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        elif found := re.fullmatch(r"([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch(found[1], json.loads(body))
        elif found := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(?:/(\w+)(?:/(.+))?)?", path):
            kind, name, what, rest = found.groups()
            self._api(name if kind == "models" else f"datasets/{name}", what or "revision", rest or "main", body)
        else:
            self._answer(404, {})

    do_HEAD = do_GET = do_POST = do_PUT = _any  # noqa: N815

    def _repository(self, name: str, writing: bool = False) -> Repository | None:
        """The repository, if it may be seen (and written to); else the answer is given, and None."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.known):
            self._answer(404 if self.known else 401, {}, {"X-Error-Code": "RepoNotFound"})
        elif found.gated and not self.known:
            self._answer(401, {}, {"X-Error-Code": "GatedRepo"})
        elif writing and not self.known:
            self._answer(401, {}, {"X-Error-Code": "RepoNotFound"})
        elif writing and not name.startswith(f"{USER}/"):
            self._answer(403, {"error": "no write access"})
        else:
            return found
        return None

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        headers = {"X-Repo-Commit": commit}
        if file not in repository.commits[commit]:
            return self._answer(404, {}, {**headers, "X-Error-Code": "EntryNotFound"})
        data = repository.commits[commit][file]
        if file.endswith(LARGE):
            sha256 = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            return self._answer(302, b"", {**headers, **linked, "Location": f"{self.hub.store_url}/{sha256}"})
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self._answer(200, data, {**headers, "ETag": f'"{git}"'})

    def _large(self, sha256: str, body: bytes) -> None:
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != sha256:
                return self._answer(400, {"error": "another file than was announced"})
            self.hub.store[sha256] = body
            return self._answer(200, b"")
        if self.command == "POST":  # the check after an upload
            size = json.loads(body)["size"]
            return self._answer(200 if len(self.hub.store.get(sha256, b"")) == size else 404, {})
        data = self.hub.store[sha256]
        if self.hub.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.hub.short:
            data = data[: len(data) // 2]
        whole, status, headers = len(data), 200, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted:
            data, status = data[int(wanted[1]) :], 206
            headers["Content-Range"] = f"bytes {wanted[1]}-{whole - 1}/{whole}"
        if self.command == "GET" and self.hub.cut_after is not None and sha256 not in self.hub.cut:
            self.hub.cut.add(sha256)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: self.hub.cut_after])
            self.wfile.flush()
            if self.hub.hold:
                self.connection.recv(1)
            self.connection.close()
            self.close_connection = True
            return
        self._answer(status, data, headers)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or USER
        name = f"{owner}/{wanted['name']}"
        if not self.known:
            return self._answer(401, {"error": "Unauthorized"})
        if owner != USER:
            return self._answer(403, {"error": f"no rights in {owner}"})
        if name in self.hub.repositories:
            return self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[name] = Repository(private)
        self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _batch(self, name: str, wanted: dict[str, Any]) -> None:
        if self._repository(name, writing=True) is None:
            return
        objects = []
        for entry in wanted["objects"]:
            href = {"href": f"{self.hub.store_url}/{entry['oid']}", "header": {}}
            actions = {} if entry["oid"] in self.hub.store else {"actions": {"upload": href, "verify": href}}
            objects.append({**entry, **actions})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _api(self, name: str, what: str, revision: str, body: bytes) -> None:
        repository = self._repository(name, writing=self.command != "GET")
        if repository is None:
            return
        if what == "branch":
            if revision in repository.branches:
                return self._answer(409, {"error": "exists"})
            repository.branches[revision] = repository.branches["main"]
            return self._answer(200, {})
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[commit]
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._answer(200, {"id": name, "sha": commit, "private": repository.private, "siblings": siblings})
        elif what == "tree":
            self._answer(200, [{"type": "file", "path": p, "size": len(d), "oid": "0" * 40} for p, d in files.items()])
        elif what == "preupload":
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            modes = [
                {"path": p, "uploadMode": "lfs" if p.endswith(LARGE) else "regular", "shouldIgnore": False}
                for p in paths
            ]
            self._answer(200, {"files": modes})
        elif what == "commit":
            self._commit(name, revision, [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {})

    def _commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> None:
        added = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.store:
                    return self._answer(400, {"error": f"{value['path']} was not uploaded"})
                added[value["path"]] = self.hub.store[value["oid"]]
        oid = self.hub.repositories[name].commit(added, branch)
        self._answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        told = {} if isinstance(content, bytes) else {"Content-Type": "application/json"}
        for name, value in {**told, **(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serves an empty hub until the context ends."""
    hub = Hub()
    with serving(type("Bound", (Handler,), {"hub": hub})) as hub.url:
        hub.store_url = hub.url.replace("127.0.0.1", "localhost") + "/store"
        yield hub
