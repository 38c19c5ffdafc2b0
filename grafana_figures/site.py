# SPDX-License-Identifier: Apache-2.0
"""What the stand-in for Grafana answers: pages at Grafana's addresses, its API, and the figures behind the pages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from grafana_figures import Grafana
from grafana_figures.dashboard import Dashboard, Drawn, slug
from grafana_figures.explore import asked, explore
from grafana_figures.model import Json
from grafana_figures.panel import as_json
from grafana_figures.picture import png
from grafana_figures.promql import seconds
from grafana_figures.variables import Choices
from labkit.ground.errors import LabError, MissingToolError, SettingError
from labkit.ground.guard import refusal

__all__ = ["Answer", "Site"]

_YEAR = "public, max-age=31536000, immutable"
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'",
    ),
)


@dataclass(frozen=True)
class Answer:
    """An answer to a request; a body that is a file is sent without being read whole."""

    status: int
    body: bytes | Path
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=())


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of "now", "now-5m" or milliseconds since 1970.

    Raises:
        SettingError: it is none of them.
    """
    if text == "now":
        return now
    if text.startswith("now-") and seconds(text[4:].partition("/")[0]):
        return now - seconds(text[4:].partition("/")[0])
    if text.isdigit():
        return int(text) / 1000
    raise SettingError(f"{text!r} is no moment", next_step="write it as now-5m, or as milliseconds since 1970")


class Site:
    """Answers requests.

    Args:
        grafana: What draws, asked for at every request.
        version: What Grafana's version is said to be.
    """

    def __init__(self, grafana: Callable[[], Grafana], version: str) -> None:
        self._now = grafana
        self.version = version
        self._routes: tuple[tuple[str, Callable[..., Answer]], ...] = (
            ("/", self._home),
            ("/login", self._home),
            ("/dashboards", self._home),
            ("/explore", self._explore_page),
            ("/healthz", self._ok),
            ("/metrics", self._metrics),
            ("/api/health", self._health),
            ("/api/search", self._search),
            ("/api/datasources", self._datasources),
            ("/api/dashboards/uid/([^/]+)", self._dashboard_json),
            ("/api/dashboards/db/([^/]+)", self._dashboard_json),
            ("/api/labkit/draw/([^/]+)", self._draw),
            ("/api/labkit/explore", self._explore),
            ("/render/d-solo/([^/]+)(?:/[^/]+)?", self._render),
            ("/render/.*", self._render_whole),
            ("/dashboard/db/([^/]+)", self._redirect),
            ("/d/([^/]+)/?", self._redirect_uid),
            ("/d/([^/]+)/([^/]+)", self._page),
            ("/d-solo/([^/]+)/([^/]+)", self._page),
            ("/public/(page[.]js|page[.]css|plotly[.]min[.]js)", self._file),
        )

    def answer(self, method: str, target: str, host: str, origin: str) -> Answer:
        """The answer to a request.

        Args:
            method: "GET" or "HEAD"; anything else is refused.
            target: Path and query.
            host: The Host header.
            origin: The Origin header, "" if there is none.
        """
        reason = refusal(method, host, origin)
        if reason:
            return _text(403, reason)
        if method not in ("GET", "HEAD"):
            return _json({"message": "the stand-in for Grafana is read only"}, 405)
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True)
        for pattern, handler in self._routes:
            match = re.fullmatch(pattern, parts.path or "/")
            if match:
                try:
                    return handler(*match.groups(), path=parts.path, query=query)
                except SettingError as error:
                    return _json({"message": str(error)}, 404 if "dashboard" in error.message else 400)
                except MissingToolError as error:
                    return _json({"message": str(error)}, 501)
                except LabError as error:
                    return _json({"message": str(error)}, 502)
        return _json({"message": "Not found"}, 404)

    # -- pages

    def _home(self, *, path: str, query: Json) -> Answer:
        return self._html("Dashboards", path, {"page": "home"})

    def _page(self, uid: str, _slug: str, *, path: str, query: Json) -> Answer:
        dashboard = self._now().dashboard(uid)
        given = {"page": "solo" if path.startswith("/d-solo/") else "dashboard", "uid": dashboard.uid}
        given |= {"from": f"now-{dashboard.length}", "refresh": dashboard.refresh or "10s"}
        return self._html(dashboard.title, path, given)

    def _explore_page(self, *, path: str, query: Mapping[str, Sequence[str]]) -> Answer:
        given = {"from": "now-1h", "refresh": ""} | asked(query)
        return self._html("Explore", path, {"page": "explore", **given})

    def _html(self, title: str, path: str, given: Json) -> Answer:
        up = "../" * (path.count("/") - 1) or "./"
        given |= {"base": up, "dashboards": [_short(one) for one in self._now().dashboards]}
        given["version"] = self.version
        text = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
        # "<" cannot end the script element that holds it.
        data = json.dumps(given).replace("<", "\\u003c")
        for name, value in (("TITLE", escape(title)), ("BASE", up), ("DATA", data), ("STAMP", _stamp())):
            text = text.replace(f"%{name}%", value)
        return Answer(200, text.encode(), "text/html; charset=utf-8", (*_HEADERS, ("Cache-Control", "no-store")))

    def _redirect(self, name: str, *, path: str, query: Json) -> Answer:
        dashboard = self._now().dashboard(name)
        return _moved(f"../../d/{quote(dashboard.uid)}/{dashboard.slug}", query)

    def _redirect_uid(self, uid: str, *, path: str, query: Json) -> Answer:
        dashboard = self._now().dashboard(uid)
        start = "../" if path.endswith("/") else ""
        return _moved(f"{start}{quote(dashboard.uid)}/{dashboard.slug}", query)

    def _file(self, name: str, *, path: str, query: Json) -> Answer:
        if name == "plotly.min.js":
            return Answer(200, _plotly(), "text/javascript; charset=utf-8", (("Cache-Control", _YEAR),))
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        body = (resources.files(__package__) / name).read_bytes()
        return Answer(200, body, f"{kind}; charset=utf-8", (("Cache-Control", _YEAR),))

    # -- Grafana's API

    def _ok(self, *, path: str, query: Json) -> Answer:
        return _text(200, "Ok")

    def _health(self, *, path: str, query: Json) -> Answer:
        return _json({"commit": "labkit", "database": "ok", "version": self.version})

    def _metrics(self, *, path: str, query: Json) -> Answer:
        lines = (
            "# HELP grafana_build_info The version that the workshop's stand-in plays.",
            "# TYPE grafana_build_info gauge",
            f'grafana_build_info{{edition="stand-in",version="{self.version}"}} 1',
        )
        return Answer(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _search(self, *, path: str, query: Json) -> Answer:
        words = slug((query.get("query") or [""])[0])
        found = [one for one in enumerate(self._now().dashboards, 1) if words in one[1].slug]
        if (query.get("type") or ["dash-db"])[0] != "dash-db":
            found = []
        more = {"tags": [], "isStarred": False, "type": "dash-db", "folderTitle": "istio"}
        return _json([{"id": number, "uri": f"db/{one.slug}", **_short(one), **more} for number, one in found])

    def _datasources(self, *, path: str, query: Json) -> Answer:
        return _json(
            [
                {
                    "id": number,
                    "orgId": 1,
                    "name": one.name,
                    "type": one.kind,
                    "access": "proxy",
                    "url": one.url,
                    "isDefault": one.default,
                    "readOnly": True,
                    "jsonData": {"timeInterval": f"{one.interval:g}s"},
                }
                for number, one in enumerate(self._now().sources, 1)
            ]
        )

    def _dashboard_json(self, name: str, *, path: str, query: Json) -> Answer:
        dashboard = self._now().dashboard(name)
        meta = {"type": "db", "provisioned": True, "canSave": False, "folderTitle": dashboard.folder}
        return _json({"meta": {**meta, **_short(dashboard)}, "dashboard": {**dashboard.raw, "uid": dashboard.uid}})

    # -- figures

    def _draw(self, uid: str, *, path: str, query: Mapping[str, Sequence[str]]) -> Answer:
        drawn = self._drawn(uid, query)
        panels = [as_json(panel) for panel in drawn]
        title = self._now().dashboard(uid).title
        return _json({"title": title, "variables": _described(drawn.variables), "panels": panels})

    def _drawn(self, uid: str, query: Mapping[str, Sequence[str]]) -> Drawn:
        grafana = self._now()
        dashboard = grafana.dashboard(uid)
        start, end = _times(query, f"now-{dashboard.length}")
        chosen = {name.removeprefix("var-"): values for name, values in query.items() if name.startswith("var-")}
        known = {one.get("name") for one in (dashboard.raw.get("templating") or {}).get("list") or ()}
        chosen = {name: values for name, values in chosen.items() if name in known}
        choices = grafana.variables(dashboard.uid, chosen, window=f"{end - start}s", end=end)
        only = [int(one) for one in query.get("panel") or () if one.isdigit()]
        return dashboard.draw(grafana.pen(dashboard, choices, start, end), only)

    def _explore(self, *, path: str, query: Mapping[str, Sequence[str]]) -> Answer:
        given = asked(query)
        start, end = _times({name: [text] for name, text in given.items()}, "now-1h")
        expression = given.get("expr", "").strip()
        if not expression:
            raise SettingError("no PromQL is given", next_step="write an expression, such as sum(istio_requests_total)")
        graph, table = explore(self._now(), expression, start, end)
        shown = [as_json(panel) for panel in (graph, table) if panel.drawn]
        problem = "" if graph.drawn else f"{expression}: {graph.reason}"
        return _json({"title": "Explore", "variables": [], "panels": shown, "problem": problem})

    def _render(self, uid: str, *, path: str, query: Mapping[str, Sequence[str]]) -> Answer:
        wanted = (query.get("panelId") or query.get("viewPanel") or [""])[-1].removeprefix("panel-")
        if not wanted.isdigit():
            raise SettingError("no panel is named", next_step="give panelId=NUMBER; a panel's JSON has it as its id")
        found = self._drawn(uid, {**query, "panel": [wanted]})
        if not len(found):
            raise SettingError(f"no panel has the number {wanted}", next_step="a panel's JSON has it as its id")
        width, height = (_pixels(query, name, default) for name, default in (("width", 1000), ("height", 500)))
        scale = _pixels(query, "scale", _pixels(query, "deviceScaleFactor", 1))
        return Answer(200, png(found[0].figure, width=width, height=height, scale=scale), "image/png")

    def _render_whole(self, *, path: str, query: Json) -> Answer:
        raise SettingError("a picture is one of a panel", next_step="ask for /render/d-solo/UID/NAME?panelId=NUMBER")


def _times(query: Mapping[str, Sequence[str]], first: str) -> tuple[float, float]:
    """The first and the last moment, in seconds since 1970."""
    now = time.time()
    start = moment((query.get("from") or [first])[-1], now)
    end = moment((query.get("to") or ["now"])[-1], now)
    if not start < end:
        raise SettingError("the time range ends before it starts", next_step="swap from and to")
    return start, end


def _pixels(query: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    text = (query.get(name) or [str(default)])[-1]
    if not text.isdigit():
        raise SettingError(f"{name}={text} is no number", next_step=f"write it as {name}={default}")
    return int(text)


def _described(choices: Choices) -> list[Json]:
    return [
        {
            "name": one.name,
            "label": one.label,
            "options": [{"value": value, "text": one.texts.get(value, value)} for value in one.options],
            "chosen": list(one.chosen),
            "multi": one.multi,
            "all": one.all,
            "reason": one.reason,
        }
        for one in choices.values()
        if not one.hidden
    ]


def _short(dashboard: Dashboard) -> Json:
    url = f"/d/{quote(dashboard.uid)}/{dashboard.slug}"
    return {"uid": dashboard.uid, "title": dashboard.title, "slug": dashboard.slug, "url": url}


def _moved(where: str, query: Mapping[str, Sequence[str]]) -> Answer:
    pairs = [f"{quote(name)}={quote(value, safe='')}" for name, values in query.items() for value in values]
    # Relative, so that it also holds below a proxy's prefix.
    return Answer(302, b"", "text/plain", (("Location", where + (f"?{'&'.join(pairs)}" if pairs else "")),))


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(
        status, json.dumps(content).encode(), "application/json", (("Cache-Control", "no-store"), *_HEADERS[:1])
    )


def _text(status: int, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode(), "text/plain; charset=utf-8", _HEADERS[:1])


def _plotly() -> Path:
    """plotly.js as the plotly package brings it; the package itself, which is large, is not loaded."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file
    raise LabError("plotly.js is not installed", next_step="pip install plotly")


def _stamp() -> str:
    """Changes when a file of the page does: browsers keep them for a year."""
    files = [Path(str(resources.files(__package__) / name)) for name in ("page.js", "page.css")]
    return f"{sum(int(file.stat().st_mtime) for file in files):x}"
