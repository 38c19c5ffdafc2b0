# SPDX-License-Identifier: Apache-2.0
"""Six thousand requests that nobody should send, to a whole sandbox with Istio in it, in both releases."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import io
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil
import pytest
import yaml

from labkit import istio
from tests.api.test_mutations import PYTHONS_WORDS
from tests.conftest import GENUINE, SandboxUnderTest
from tests.mutations import OWN, Case, Mutator, manifests

COUNT = 3000
EACH = 100
MOST_MORE = 50_000_000
HANG = 2.0
"""Seconds of the daemon's processor time: that of a wall clock belongs to whatever else the machine does."""

QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "12"}}}
WORKLOADS = ("deployments", "daemonsets", "statefulsets", "jobs", "cronjobs", "replicasets", "pods", "services")


@dataclass
class Sent:
    """What became of the requests."""

    answers: collections.Counter[int] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    most: int = 0


class Client:
    """Sends requests to a sandbox's API, and looks at its daemon meanwhile."""

    def __init__(self, sandbox: SandboxUnderTest, session: aiohttp.ClientSession) -> None:
        config = yaml.safe_load(sandbox.kubeconfig.read_text())
        self.url = config["clusters"][0]["cluster"]["server"].rstrip("/")
        self.headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self.daemon = psutil.Process(
            json.loads(sandbox.labkit("status", "--name", sandbox.name, "--json").stdout)["pid"]
        )
        self.session = session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path, headers=self.headers) as response:
            return await response.json()

    def busy(self) -> float:
        times = self.daemon.cpu_times()
        return times.user + times.system

    async def send(self, case: Case, sent: Sent) -> None:
        before, began = self.busy(), time.monotonic()
        data = None if case.body is None else io.BytesIO(case.body)
        headers = self.headers | case.headers
        try:
            async with self.session.request(case.method, self.url + case.path, data=data, headers=headers) as response:
                status, text = response.status, (await response.read()).decode(errors="replace")
        except (TimeoutError, aiohttp.ClientError) as error:
            assert self.daemon.is_running(), f"the daemon is gone after {case}"
            sent.hangs.append(f"{type(error).__name__} after {time.monotonic() - began:.1f} s: {case}")
            return
        sent.answers[status] += 1
        if status >= 500:
            sent.faults.append(f"{status} {text[:300]}: {case}")
        elif status >= 400 and PYTHONS_WORDS.search(text):
            sent.words.append(f"{text[:300]}: {case}")
        if (took := self.busy() - before) > HANG:
            sent.hangs.append(f"{took:.1f} s of processor time: {case}")
        sent.most = max(sent.most, self.daemon.memory_info().rss)

    async def plurals(self) -> dict[tuple[str, str], tuple[str, bool]]:
        groups = (await self.get("/apis"))["groups"]
        found = {}
        for version in ["v1", *(one["groupVersion"] for group in groups for one in group["versions"])]:
            for one in (await self.get(f"/{'apis' if '/' in version else 'api'}/{version}"))["resources"]:
                if "/" not in one["name"]:
                    found[version, one["kind"]] = one["name"], one["namespaced"]
        return found


def installed(start: Callable[..., SandboxUnderTest], release: str) -> SandboxUnderTest:
    sandbox = start(release, name="mutations")
    files = istio.release(release)
    if release != "1.2.2":
        sandbox.kubectl("create", "namespace", "istio-system")
    for file in (*files.crd_files, *files.demo_files):
        sandbox.kubectl("apply", "-f", str(file))
    sandbox.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-n", "istio-system", "--timeout=240s")
    sandbox.kubectl("create", "namespace", "fuzz")
    sandbox.kubectl("label", "namespace", "fuzz", "istio-injection=enabled")
    sandbox.kubectl("apply", "-n", "fuzz", "-f", "-", stdin=json.dumps(QUOTA))
    return sandbox


def tidy(sandbox: SandboxUnderTest) -> None:
    """The workloads go from time to time: it is the daemon that is tried, not the machine."""
    sandbox.kubectl("delete", ",".join(WORKLOADS), "--all", "-n", "fuzz", "--wait=false", "--now", check=False)


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
@pytest.mark.timeout(3000)
def test_mutated_manifests_and_requests(
    start_sandbox: Callable[..., SandboxUnderTest],
    release: str,
    figure: Callable[[str, object, str], None],
    until: Callable[..., Any],
) -> None:
    sandbox = installed(start_sandbox, release)
    known = manifests(OWN / release, GENUINE / f"istio-{release}")
    sent = Sent()

    async def work() -> tuple[int, psutil.Process]:
        context = ssl.create_default_context(cafile=str(sandbox.home / "ca.crt"))
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = Client(sandbox, session)
            mutator = Mutator(20261125, known, await client.plurals())
            before = 0
            for number, case in enumerate(mutator.cases(COUNT)):
                if number % EACH == 0:
                    await asyncio.to_thread(tidy, sandbox)
                if number == EACH:
                    # What every sandbox loads once, when it is first asked for, is in.
                    before = client.daemon.memory_info().rss
                await client.send(case, sent)
            assert (await client.get("/api/v1/namespaces/fuzz"))["kind"] == "Namespace"
            # What was stored takes its room as anywhere; what is left without it is what the requests cost.
            await asyncio.to_thread(sandbox.kubectl, "delete", "namespace", "fuzz", "--timeout=110s", check=False)
            return before, client.daemon

    before, daemon = asyncio.run(work())
    after = 0

    def small() -> bool:
        nonlocal after
        after = daemon.memory_info().rss
        return after - before <= MOST_MORE

    # It is given back once nothing has been written for a moment; how much there is at the end is judged below.
    with contextlib.suppress(AssertionError):
        until(small, 60, "memory given back")
    figure(f"{release}: requests answered", f"{sum(sent.answers.values())}: {dict(sent.answers)}", f"{COUNT}")
    figure(f"{release}: answers of 5xx", len(sent.faults), "0")
    figure(f"{release}: hangs over {HANG:.0f} s", len(sent.hangs), "0")
    figure(f"{release}: answers in Python's words", len(sent.words), "0")
    figure(
        f"{release}: daemon's memory",
        f"{(after - before) / 1e6:+.0f} MB, at most {(sent.most - before) / 1e6:+.0f}",
        "+≤ 50 MB",
    )
    log = (sandbox.home / "daemon.log").read_text(errors="replace")
    figure(f"{release}: tracebacks in daemon.log", log.count("Traceback (most recent call last)"), "0")
    (sandbox.labkit_home / "daemon.log").write_text(log)
    assert (sent.faults, sent.hangs, sent.words) == ([], [], [])
    assert sum(sent.answers.values()) == COUNT
    assert after - before <= MOST_MORE
    assert "Traceback (most recent call last)" not in log, log[log.index("Traceback (most recent call last)") :][:3000]
