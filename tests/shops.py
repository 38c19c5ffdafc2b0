# SPDX-License-Identifier: Apache-2.0
"""BookInfo in a mesh, from the workshop's own manifests; and one of each release that modules share."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit import cluster, istio
from labkit.cluster import Target
from labkit.ground.errors import MissingToolError
from meshbox.kiali_console import fetch_console
from tests.conftest import SandboxUnderTest, sandboxes, wait_until
from tests.restoring import at_rest, put_back
from tests.written import written

__all__ = ["Shop", "Shops", "open_shop", "pytest_runtest_teardown", "shared_shop", "shop_release"]

DEPLOYED = "--for=condition=Available"
TELEMETRY = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: mesh-default, namespace: istio-system}
spec: {tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 100}]}
"""


@dataclass
class Shop:
    """BookInfo in a mesh.

    Args:
        sandbox: Where.
        url: Of the ingress gateway.
    """

    sandbox: SandboxUnderTest
    url: str

    def status(self, path: str = "/productpage", headers: dict[str, str] | None = None) -> int:
        """Status of one request through the gateway; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, headers=headers or {}), timeout=60
            ) as got:
                got.read()
                return got.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def pod(self, app: str, namespace: str = "bookinfo") -> dict[str, Any]:
        """The newest pod of an app; one that is on its way out only where there is no other."""
        listed = self.sandbox.kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "json").stdout

        def newest(pod: dict[str, Any]) -> tuple[bool, str]:
            # Times are whole seconds: two may be alike.
            return "deletionTimestamp" not in pod["metadata"], pod["metadata"]["creationTimestamp"]

        return max(json.loads(listed)["items"], key=newest)

    def restarts(self, app: str, container: str, namespace: str = "bookinfo") -> int:
        """How often a container of an app was restarted."""
        status = self.pod(app, namespace)["status"]
        every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
        return next(one["restartCount"] for one in every if one["name"] == container)


def open_shop(start: Callable[..., SandboxUnderTest], release: str, *, traced: bool = False) -> Shop:
    """Install Istio and BookInfo, and wait until its page is served.

    Args:
        start: Starts a sandbox.
        release: Istio's.
        traced: Whether every request is to be traced, as 1.2.2 does by itself. Said before there is a proxy: one that
            takes it up later has new listeners, and what was counted since the last scrape is gone.
    """
    sandbox = start(release, name="shop")
    files = istio.release(release)
    if release != "1.2.2":
        sandbox.kubectl("create", "namespace", "istio-system")
    # Each kubectl costs as much as what it asks for.
    sandbox.kubectl("apply", *(f"--filename={file}" for file in files.crd_files))
    sandbox.kubectl("apply", *(f"--filename={file}" for file in (*files.demo_files, *files.addon_files)))
    if traced and release != "1.2.2":
        sandbox.kubectl("apply", "-f", "-", stdin=TELEMETRY)
    sandbox.kubectl("create", "namespace", "bookinfo")
    sandbox.kubectl("label", "namespace", "bookinfo", "istio-injection=enabled")
    samples = files.samples / "bookinfo"
    names = ("platform/kube/bookinfo.yaml", "networking/bookinfo-gateway.yaml", "networking/destination-rule-all.yaml")
    sandbox.kubectl("apply", "-n", "bookinfo", *(f"--filename={samples / name}" for name in names))
    for namespace in ("istio-system", "bookinfo"):
        sandbox.kubectl("wait", DEPLOYED, "deployment", "--all", "-n", namespace, "--timeout=240s")
    service = json.loads(
        sandbox.kubectl("get", "svc", "-n", "istio-system", "istio-ingressgateway", "-o", "json").stdout
    )
    port = next(one["nodePort"] for one in service["spec"]["ports"] if one["name"] == "http2")
    shop = Shop(sandbox, f"http://{sandbox.node}:{port}")
    wait_until(lambda: shop.status() == 200, 20, "a 200 at /productpage")
    return shop


@dataclass
class _Open:
    """A shared shop, what ends with it, and whether a module is in it."""

    shop: Shop
    ends: contextlib.ExitStack
    taken: bool = False


@dataclass
class Shops:
    """The shops that are open in this worker, one a release.

    Each is opened for the first module that wants it, and closed as soon as the next test belongs to another group.
    """

    factory: pytest.TempPathFactory
    opened: dict[str, _Open] = field(default_factory=dict)

    def take(self, release: str) -> Shop:
        """The one of this release, for a module."""
        if release not in self.opened:
            with contextlib.ExitStack() as ends:
                start = ends.enter_context(sandboxes(self.factory))
                home = home_with_console(self.factory)
                shop = open_shop(lambda *words, **more: start(*words, **more, home=home), release, traced=True)
                self.opened[release] = _Open(shop, ends.pop_all())
        self.opened[release].taken = True
        return self.opened[release].shop

    def give_back(self, release: str, *, spoilt: bool) -> None:
        """The module is over; a shop that is no more what it was serves no other."""
        self.opened[release].taken = False
        if spoilt:
            self.close(release)

    def close(self, release: str) -> None:
        """Stop it, and all that was started for it."""
        self.opened.pop(release).ends.close()

    def keep(self, release: str) -> None:
        """Close all that no module is in, save the one that the next test asks for ("": none)."""
        for one in [one for one, found in self.opened.items() if one != release and not found.taken]:
            self.close(one)


def home_with_console(factory: pytest.TempPathFactory) -> Path:
    """A LABKIT_HOME where Kiali's console is, as `labkit setup` leaves it; without npm it is not there."""
    home = factory.mktemp("labkit")
    with contextlib.suppress(MissingToolError):
        fetched = fetch_console().parent
        (home / "tools").mkdir()
        (home / "tools" / fetched.name).symlink_to(fetched)
    return home


_SHOPS = pytest.StashKey[Shops]()


def shops_of(session: pytest.Session, factory: pytest.TempPathFactory) -> Shops:
    """Those of this run of pytest."""
    if _SHOPS not in session.stash:
        shops = session.stash[_SHOPS] = Shops(factory)
        # Where the run ends before its last test.
        session.addfinalizer(lambda: shops.keep(""))
    return session.stash[_SHOPS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """An idle mesh is busy with itself, so none stays open for nobody."""
    result = yield
    if shops := item.session.stash.get(_SHOPS, None):
        parameters = getattr(getattr(nextitem, "callspec", None), "params", {})
        shops.keep(parameters.get("shop_release", ""))
    return result


@pytest.fixture(scope="session", params=["1.2.2", "1.30.3"])
def shop_release(request: pytest.FixtureRequest) -> str:
    """The release of a shared shop; all tests with one of these are a group, across files."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared_shop(
    shop_release: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop that other modules use before and after.

    Who changes it puts it back; or says that it is to be `restored`, or that the module `spoils` it.
    """
    shops = shops_of(request.session, tmp_path_factory)
    opened = shops.take(shop_release)
    marks = {mark.name for mark in request.node.iter_markers()}
    before = {} if "spoils" in marks else written(opened.sandbox)
    cluster.use(Target(str(opened.sandbox.kubeconfig)))
    yield opened
    cluster.leave()
    after: dict[str, dict[str, Any]] = {"nothing": {}}
    try:
        if "restored" in marks:
            put_back(opened.sandbox, before)
            wait_until(lambda: opened.status() == 200, what="the page of the mesh that was put back")
        if "spoils" not in marks:
            # What a module has deleted last may still have pods, which the next one would count.
            at_rest(opened.sandbox)
        after = {} if "spoils" in marks else written(opened.sandbox)
    finally:
        shops.give_back(shop_release, spoilt="spoils" in marks or before != after)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    assert changed == [], (
        f"{request.node.name} does not leave the mesh of Istio {shop_release} as it found it: {', '.join(changed)}"
    )
