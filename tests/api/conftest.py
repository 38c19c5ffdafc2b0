# SPDX-License-Identifier: Apache-2.0
"""An API server without controllers and pods, in the test's own event loop, and the clients that talk to it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.api.server import ApiServer
from meshbox.blocks import claim
from meshbox.contracts import ApiError
from meshbox.settings import SandboxSettings
from tests.conftest import PATIENCE, TOKEN

KUBECTL = str(Path(sys.executable).parent / "kubectl")
GENUINE = Path(__file__).resolve().parents[3] / "shared" / "releases"


@pytest.fixture
def number(tmp_path: Path) -> Iterator[int]:
    """X of an address block 127.X.0.0/16 that nobody else on this machine uses while the test runs."""
    folder = tmp_path / "addresses"
    folder.mkdir()
    plan, held = claim(folder)
    with held:
        yield plan.number


@pytest.fixture
def release() -> str:
    """Which release's time is played; a test may parametrize it."""
    return "1.30.3"


@pytest.fixture
def settings(tmp_path: Path, number: int, release: str) -> SandboxSettings:
    home = tmp_path / "sandbox"
    home.mkdir(mode=0o700)
    return SandboxSettings("test", home, release, AddressPlan(number), token=TOKEN)


@pytest.fixture
def objects(settings: SandboxSettings) -> Iterator[ObjectStore]:
    """The object store of an empty cluster."""
    store = ObjectStore(settings)
    yield store
    store.close()


async def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `condition` is true; fail with `what` at the deadline."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not so within {seconds} s: {what}")


@dataclass
class Reply:
    """What a request was answered with."""

    status: int
    headers: Any
    body: Any
    text: str


@dataclass
class Cluster:
    """A running API server."""

    objects: ObjectStore
    settings: SandboxSettings
    server: ApiServer
    session: aiohttp.ClientSession
    home: Path

    @property
    def url(self) -> str:
        return f"https://{self.settings.plan.node}:{self.server.port}"

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """One request with the sandbox's token; a body that is no bytes is sent as JSON."""
        headers = {"Authorization": f"Bearer {self.settings.token}", "Content-Type": "application/json"}
        headers = {k: v for k, v in (headers | options.pop("headers", {})).items() if v is not None}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        data = None if content is None else io.BytesIO(content)
        async with self.session.request(method, self.url + path, data=data, headers=headers, **options) as response:
            text = (await response.read()).decode()
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            return Reply(response.status, response.headers, value, text)

    async def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, folder: str | None = None) -> Run:
        """Run the real kubectl; with `check`, it must succeed."""
        process = await asyncio.create_subprocess_exec(
            KUBECTL,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=self.environment,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE)
        run = Run(process.returncode or 0, out.decode(), err.decode())
        assert not check or run.code == 0, f"kubectl {' '.join(arguments)}\n{run.out}\n{run.err}"
        return run

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECONFIG": str(self.settings.home / "kubeconfig"),
        }


@dataclass
class Run:
    """A kubectl command that has ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> dict[str, int]:
        """How often each last word of a line was printed (created, unchanged, …)."""
        last = [line.split()[-1] for line in self.out.splitlines() if line.strip()]
        return {word: last.count(word) for word in last}


@pytest.fixture
async def cluster(objects: ObjectStore, settings: SandboxSettings, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A running API server, empty."""
    server = ApiServer(objects, settings, None)
    await server.start()
    context = ssl.create_default_context(cafile=str(settings.home / "ca.crt"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Cluster(objects, settings, server, session, tmp_path)
    await server.stop()


@pytest.fixture
def genuine() -> Callable[[str], Path]:
    """The folder of a genuine release, or a skip."""

    def folder(release: str) -> Path:
        path = GENUINE / f"istio-{release}"
        if not path.is_dir():
            pytest.skip(f"the genuine manifests of Istio {release} are not at {path}")
        return path

    return folder


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A small pod that is right."""
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "web", "image": "nginx"}], **spec}}


def crd(plural: str = "widgets", kind: str = "Widget", **version: Any) -> dict[str, Any]:
    """A small CustomResourceDefinition that is right, of group example.com."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def config_map(name: str = "settings", **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "web") -> dict[str, Any]:
    """A small Deployment that is right."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod()["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def refused(call: Any, *arguments: Any, **options: Any) -> ApiError:
    """The error that a call ends with."""
    with pytest.raises(ApiError) as caught:
        call(*arguments, **options)
    return caught.value


CRDS = "customresourcedefinitions.apiextensions.k8s.io"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
