# SPDX-License-Identifier: Apache-2.0
"""What the pods of the control plane are told, whose work the mesh does: they hand on what istioctl and others ask.

Below `/control-plane/`, to whoever has the proxies' token: `debug/PAGE` (pages as istiod's own, in JSON), `inject`
(an AdmissionReview, answered), `identity` (the certificate that one of its pods shows) and `authority` (asked by an
istiod that starts: from then on the mesh signs for the authority that is plugged in).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from labkit.ground import reading
from meshbox.contracts import Objects
from meshbox.mesh.certificates import Authority
from meshbox.mesh.debug_pages import PAGES, About
from meshbox.mesh.inject.reviews import reviewed
from meshbox.mesh.plugged import files_of
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.revisions import called, is_istiod, revision_of
from meshbox.mesh.snapshot import Snapshot
from meshbox.settings import SandboxSettings

__all__ = ["PREFIX", "ControlPlane"]

PREFIX = "/control-plane/"


class ControlPlane:
    """Answers pods of the control plane.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        snapshot: Gives the mesh as it is now.
        proxies: Gives what each proxy has, by namespace and name of its pod.
        authority: Signs what a pod shows.
    """

    def __init__(
        self,
        objects: Objects,
        settings: SandboxSettings,
        snapshot: Callable[[], Snapshot],
        proxies: Callable[[], Mapping[tuple[str, str], ProxyState]],
        authority: Authority,
    ) -> None:
        self._objects, self._settings = objects, settings
        self._snapshot, self._proxies, self._authority = snapshot, proxies, authority

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request for a path below `PREFIX`."""
        what, _, name = request.path.removeprefix(PREFIX).partition("/")
        if what == "debug" and request.method == "GET":
            return self._page(name, request.query)
        if what == "inject" and request.method == "POST":
            return await self._inject(request)
        if what == "identity" and request.method == "GET":
            return self._identity(request.query)
        if what == "authority" and request.method == "GET":
            return self._plugged_in(request.query)
        return web.Response(status=404, text="no such page\n")

    def _page(self, name: str, query: Mapping[str, str]) -> web.Response:
        made = PAGES.get(name)
        if made is None:
            known = ", ".join(sorted(PAGES))
            return web.Response(status=404, text=f"no page {name} is played in this sandbox; there are {known}\n")
        found = made[1](About(self._objects, self._snapshot(), self._proxies(), self._settings.release), query)
        if found is None:
            return web.Response(status=404, text="Proxy not connected to this Pilot instance. It may be connected to "
                                                 "another instance.\n")  # fmt: skip
        return _json(found)

    async def _inject(self, request: web.BaseRequest) -> web.Response:
        try:
            review = reading.json_value((await request.read()).decode())
            return _json(reviewed(self._objects, self._settings, review))
        except (reading.ReadingError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            return web.Response(status=400, text=f"could not decode body: {error}\n")

    def _plugged_in(self, query: Mapping[str, str]) -> web.Response:
        # Whoever asks has no say in whose authority it is, but for Citadel, which may sign for itself.
        files = {} if query.get("own") else files_of(self._objects)
        try:
            self._authority.adopt(files)
        except ValueError as error:
            return web.Response(status=409, text=f"{error}\n")
        return _json({"plugged": bool(files)})

    def _identity(self, query: Mapping[str, str]) -> web.Response:
        key = query.get("namespace", ""), query.get("pod", "")
        snapshot = self._snapshot()
        pod, workload = snapshot.pods.get(key), snapshot.workloads.get(key)
        if pod is None or workload is None or not is_istiod(pod):
            return web.Response(status=404, text="no pod of the control plane\n")
        services = [f"{one}.{key[0]}.svc" for one in dict.fromkeys(("istiod", called("istiod", revision_of(pod))))]
        names = [f"{one}{domain}" for one in services for domain in ("", ".cluster.local")]
        found = self._authority.identity(workload.principal, None, *names)
        return _json({"chain": found.chain, "key": found.key})


def _json(found: Any) -> web.Response:
    return web.Response(text=json.dumps(found, indent=2) + "\n", content_type="application/json")
