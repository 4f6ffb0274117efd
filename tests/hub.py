"""A Hub on the loopback: the routes that the real `huggingface_hub` and `datasets` clients call to publish and load.

Repositories live in memory. A fault is planned for the n-th request, or for the next one of some kind: an answer with a
status, a connection that is cut before anything is done, or one that is cut after it is done (a lost answer).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import card_rules
import xet
import yaml
from servers import Served

TOKEN = "hf_loopbackTokenThatNobodyHas"
STORAGE_TOKEN = "xet_loopbackTokenOfTheStorage"
CUT = -1
"""A fault: the connection ends and nothing is done."""
LOST = -2
"""A fault: what was asked is done, and the connection ends without an answer."""


@dataclass
class Repository:
    """Commits by id, each the files there were then; names of branches, tags and pull requests to commits."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], parent: str) -> str:
        seed = f"{len(self.commits)}:{parent}:{sorted((p, hashlib.sha1(b).hexdigest()) for p, b in files.items())}"
        name = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[name] = files
        return name

    def resolve(self, revision: str) -> str | None:
        for names in (self.branches, self.tags, self.requests):
            if revision in names:
                return names[revision]
        return revision if revision in self.commits else None


@dataclass
class Hub:
    """The hub's contents and the requests that it got.

    `plan` gives the fault of a request by number and route name, or None.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    xorbs: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    plan: Callable[[int, str], int | None] = lambda number, route: None
    before_commit: Callable[[], None] = lambda: None
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.resolve(revision) or ""]

    def push(self, name: str, path: str, content: bytes) -> str:
        """Commit to main as somebody else would; return the commit."""
        repository = self.repositories[name]
        head = repository.branches["main"]
        repository.branches["main"] = repository.commit({**repository.commits[head], path: content}, head)
        return repository.branches["main"]


class RefusedError(Exception):
    def __init__(self, status: int, code: str | None = None, message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


REPO = r"/api/(?:datasets|models)/(?P<repo>[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, str]] = [
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", REPO + "/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/objects/(?P<oid>[0-9a-f]{64})", "upload"),
    ("POST", "/verify", "verify"),
    ("GET", REPO + "/xet-write-token/(?P<revision>[^/]+)", "write_token"),
    ("POST", "/v1/xorbs/default/(?P<name>[0-9a-f]{64})", "xorb"),
    ("POST", "/v1/shards", "shard"),
    ("POST", REPO + "/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", REPO + "/tag/(?P<revision>[^/]+)", "tag"),
    ("POST", REPO + "/branch/(?P<revision>[^/]+)", "branch"),
    ("GET", REPO + "/refs", "refs"),
    ("GET", REPO + "/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", REPO + "/paths-info/(?P<revision>[^/]+)", "paths"),
    ("GET", REPO + "/revision/(?P<revision>[^/]+)", "info"),
    ("GET", REPO, "info"),
    ("HEAD", r"(?:/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", r"(?:/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second would wait 40 ms for an answer
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, target.path)
            if match and method == self.command:
                given = {key: unquote(value) for key, value in match.groupdict().items() if value}
                name = route
                break
        else:
            return self._answer(404, {"error": f"no route {self.command} {target.path}"})
        with self.hub.lock:
            number = len(self.hub.log)
            self.hub.log.append(name)
            self.hub.tokens.add(self.headers.get("Authorization"))
            fault = self.hub.plan(number, name)
            if fault == CUT:
                return self._cut()
            if fault and fault > 0:
                return self._answer(fault, {"error": f"planned {fault}"})
            try:
                answer = getattr(self, f"_{name}")(body, parse_qs(target.query), **given)
            except RefusedError as error:
                headers = {"X-Error-Code": error.code} if error.code else {}
                return self._answer(error.status, {"error": error.message}, headers)
            if fault == LOST:
                return self._cut()
        return answer if answer is None else self._answer(200, answer)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # ------------------------------------------------------------------------------------------------------- routes

    def _allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str, write: bool = False) -> Repository:
        repository = self.hub.repositories.get(name)
        if write and not self._allowed():
            raise RefusedError(401, None, "Invalid username or password.")
        if repository is None or (repository.private and not self._allowed()):
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        return repository

    def _at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(repo)
        commit = repository.resolve(revision)
        if commit is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _create(self, body: bytes, query: Any) -> Any:
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}"
        if not self._allowed():
            raise RefusedError(401, None, "Invalid username or password.")
        if name in self.hub.repositories:
            raise RefusedError(409, None, "You already created this dataset repo")
        repository = Repository(given.get("visibility") == "private" or bool(given.get("private")))
        repository.branches["main"] = repository.commit({".gitattributes": b"*.parquet filter=lfs\n"}, "")
        self.hub.repositories[name] = repository
        return {"url": f"{self.hub.url}/datasets/{name}"}

    def _validate(self, body: bytes, query: Any) -> Any:
        parts = json.loads(body)["content"].split("---\n")
        card = yaml.safe_load(parts[1]) if len(parts) > 2 else {}
        found = {
            "errors": [{"message": message} for message in card_rules.errors(card)],
            "warnings": [{"message": message} for message in card_rules.warnings(card)],
        }
        return self._answer(400, found) if found["errors"] else found

    def _info(self, body: bytes, query: Any, repo: str, revision: str = "main") -> Any:
        commit, files = self._at(repo, revision)
        private = self.hub.repositories[repo].private
        siblings = [{"rfilename": path} for path in sorted(files)]
        return {"_id": "0", "id": repo, "sha": commit, "private": private, "siblings": siblings, "tags": []}

    def _preupload(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        self._repository(repo, write=True)
        _, there = self._at(repo, revision)
        files = json.loads(body)["files"]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(file["path"], there[file["path"]]) if file["path"] in there else None,
                }
                for file in files
            ]
        }

    def _batch(self, body: bytes, query: Any, repo: str) -> Any:
        self._repository(repo, write=True)
        objects = []
        for item in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.url}/objects/{item['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            objects.append({**item} if item["oid"] in self.hub.objects else {**item, "actions": actions})
        return {"transfer": "basic", "objects": objects}

    def _upload(self, body: bytes, query: Any, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, None, "the bytes are not those of the oid")
        self.hub.objects[oid] = body
        return b""

    def _verify(self, body: bytes, query: Any) -> Any:
        if json.loads(body)["oid"] not in self.hub.objects:
            raise RefusedError(404, None, "object not found")
        return {}

    def _write_token(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        self._repository(repo, write=True)
        return {"accessToken": STORAGE_TOKEN, "exp": int(time.time()) + 3600, "casUrl": self.hub.url}

    def _of_storage(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {STORAGE_TOKEN}":
            raise RefusedError(401, None, "the storage takes its own token only")

    def _xorb(self, body: bytes, query: Any, name: str) -> Any:
        self._of_storage()
        self.hub.xorbs[name] = body
        return {"was_inserted": True}

    def _shard(self, body: bytes, query: Any) -> Any:
        self._of_storage()
        self.hub.objects |= dict(xet.files(body, self.hub.xorbs))
        return {"result": 1}

    def _commit(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        repository = self._repository(repo, write=True)
        self.hub.before_commit()
        head, there = self._at(repo, revision)
        files, lines = dict(there), [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", head) != head:
                raise RefusedError(412, None, "A commit has happened since. Please refresh and try again.")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise RefusedError(400, None, "LFS object was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, head)
        answer = {"commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{commit}", "commitOid": commit}
        if "create_pr" in query:
            number = len(repository.requests) + 1
            repository.requests[f"refs/pr/{number}"] = commit
            return {**answer, "pullRequestUrl": f"{self.hub.url}/datasets/{repo}/discussions/{number}"}
        repository.branches[revision] = commit
        return answer

    def _tag(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        repository, name = self._repository(repo, write=True), json.loads(body)["tag"]
        if name in repository.tags:
            raise RefusedError(409, None, "Tag already exists")
        repository.tags[name] = self._at(repo, revision)[0]
        return {}

    def _branch(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        repository = self._repository(repo, write=True)
        if revision in repository.branches:
            raise RefusedError(409, None, "Branch already exists")
        repository.branches[revision] = repository.branches["main"]
        return {}

    def _refs(self, body: bytes, query: Any, repo: str) -> Any:
        repository = self._repository(repo)

        def names(commits: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"{kind}{n}", "targetCommit": commit} for n, commit in commits.items()]

        return {
            "branches": names(repository.branches, "refs/heads/"),
            "converts": [],
            "tags": names(repository.tags, "refs/tags/"),
            "pullRequests": names(repository.requests, ""),
        }

    def _tree(self, body: bytes, query: Any, repo: str, revision: str, path: str = "") -> Any:
        _, files = self._at(repo, revision)
        prefix = f"{path}/" if path else ""
        below = {name: content for name, content in files.items() if name.startswith(prefix)}
        if path and not below:
            raise RefusedError(404, "EntryNotFound", f"{path} does not exist")
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        rows: dict[str, Any] = {}
        for name, content in below.items():
            parts = name[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                folder = prefix + "/".join(parts[:depth])
                if recursive or depth == 1:
                    rows[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                rows[name] = _entry(name, content)
        return [rows[name] for name in sorted(rows)]

    def _paths(self, body: bytes, query: Any, repo: str, revision: str) -> Any:
        _, files = self._at(repo, revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(body)["paths"]
        else:
            paths = parse_qs(body.decode())["paths"]
        rows = []
        for path in paths:
            if path in files:
                rows.append(_entry(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                rows.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return rows

    def _resolve(self, body: bytes, query: Any, repo: str, revision: str, path: str) -> Any:
        commit, files = self._at(repo, revision)
        if path not in files:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        content, status = files[path], 200
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{_oid(path, content)}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span and self.command == "GET":
            start, end = int(span[1]), int(span[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._answer(status, content, headers)


def _oid(path: str, content: bytes) -> str:
    if path.endswith(".parquet"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    pointer = hashlib.sha1(content).hexdigest()
    row = {"type": "file", "path": path, "size": len(content), "oid": _oid(path, content)}
    if path.endswith(".parquet"):
        lfs = {"oid": _oid(path, content), "size": len(content), "pointerSize": 130}
        return {**row, "oid": pointer, "lfs": lfs}
    return row


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """Yield a hub that serves until the context ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with Served(handler) as server:
        hub.url = server.url
        yield hub
