"""A Wikipedia on loopback: answers the action API's query for introductions as MediaWiki does, faults included."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from servers import Served

Answer = tuple[int, dict[str, str], bytes]
CUT = -1
"""A status: the connection is closed in mid-body."""


@dataclass
class Page:
    """A page: its lead, the item it is about, and whether it tells namesakes apart."""

    title: str
    extract: str = ""
    item: str | None = None
    disambiguation: bool = False
    revision: int = 1


@dataclass
class Wiki:
    """Pages by title and redirects; `plan(number)` may give another answer to request `number` (from 1) in its place.

    `extracts` is how many introductions one answer holds, `log` what was parameters, in order.
    """

    pages: dict[str, Page]
    redirects: dict[str, tuple[str, str]] = field(default_factory=dict)
    extracts: int = 20
    plan: Callable[[int], Answer | None] = lambda number: None
    log: list[dict[str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def answer(self, parameters: dict[str, str]) -> Answer:
        self.log.append(parameters)
        return self.plan(len(self.log)) or (200, {}, json.dumps(self._document(parameters)).encode())

    def _document(self, parameters: dict[str, str]) -> dict[str, Any]:
        assert parameters["action"] == "query" and parameters["formatversion"] == "2" and parameters["maxlag"] == "5"
        titles = parameters["titles"].split("|")
        assert len(titles) <= 20
        normalized = [{"fromencoded": False, "from": one, "to": _normal(one)} for one in titles if one != _normal(one)]
        redirects = []
        found = []
        for title in map(_normal, titles):
            if title in self.redirects:
                target, fragment = self.redirects[title]
                step = {"from": title, "to": target}
                redirects.append({**step, "tofragment": fragment} if fragment else step)
                title = target
            if title not in found:
                found.append(title)
        start = int(parameters.get("excontinue", 0))
        first = "excontinue" not in parameters
        pages = [self._page(one, first, start <= place < start + self.extracts) for place, one in enumerate(found)]
        query: dict[str, Any] = {"pages": pages}
        if normalized:
            query["normalized"] = normalized
        if redirects:
            query["redirects"] = redirects
        if start + self.extracts < len(found):
            return {"continue": {"excontinue": start + self.extracts, "continue": "||info|pageprops"}, "query": query}
        return {"batchcomplete": True, "query": query}

    def _page(self, title: str, first: bool, with_text: bool) -> dict[str, Any]:
        page = self.pages.get(title)
        if page is None:
            return {"ns": 0, "title": title, "missing": True}
        row: dict[str, Any] = {"pageid": 1 + list(self.pages).index(title), "ns": 0, "title": title}
        if first:
            row |= {"lastrevid": page.revision, "canonicalurl": f"https://wiki.example/{title.replace(' ', '_')}"}
            props = {"wikibase_item": page.item} if page.item else {}
            row["pageprops"] = props | ({"disambiguation": ""} if page.disambiguation else {})
        return row | ({"extract": page.extract} if with_text else {})


def _normal(title: str) -> str:
    title = title.replace("_", " ")
    return title[:1].upper() + title[1:]


class MediaWiki(Served):
    """The server; `url` is the API's address."""

    def __init__(self, wiki: Wiki) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urllib.parse.urlsplit(self.path)
                parameters = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
                wiki.agents.add(self.headers["User-Agent"])
                status, headers, body = wiki.answer(parameters)
                self.send_response(200 if status == CUT else status)
                self.send_header("Content-Type", headers.pop("Content-Type", "application/json; charset=utf-8"))
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if status == CUT else body)

            def log_message(self, *args: object) -> None: ...

        super().__init__(Handler, "/w/api.php")
