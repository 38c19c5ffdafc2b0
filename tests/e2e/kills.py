# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a sandbox's daemon in the middle of writes, and what must be true after each."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from tests.conftest import PATIENCE, SandboxUnderTest, wait_until

WRITERS = 4
NAMES = 5
"""Objects that each writer creates, changes and deletes in turn."""


@dataclass
class Known:
    """What a client knows of one object.

    Args:
        value: Its data as it was acknowledged; None while there is no such object.
        uid: Its uid.
        version: The highest resourceVersion that was acknowledged.
        pending: The value of a write that was not answered; None for a deletion; absent where all were.
    """

    value: str | None = None
    uid: str = ""
    version: int = 0
    pending: list[str | None] = field(default_factory=list)


class Writer(threading.Thread):
    """A client that writes until the server is gone."""

    def __init__(self, api: client.CoreV1Api, name: str, seed: int, known: dict[str, Known]) -> None:
        super().__init__(name=name)
        self._api = api
        self._chance = random.Random(seed)
        self._known = known
        self.acknowledged = 0
        self.refused: list[str] = []

    def run(self) -> None:
        try:
            while True:
                self._write(f"{self.name}-{self._chance.randrange(NAMES)}")
        except (HTTPError, OSError):
            # The server was killed.
            return
        except client.ApiException as error:
            # 0: an answer that ended in the middle of TLS; the server was killed here too.
            if error.status:
                self.refused.append(f"{error.status} {error.body}")

    def _write(self, name: str) -> None:
        known = self._known.setdefault(name, Known())
        deletes = known.value is not None and self._chance.random() < 0.25
        value = None if deletes else f"{self._chance.random()} " + "x" * self._chance.randrange(3000)
        known.pending = [value]
        meta = client.V1ObjectMeta(name=name, namespace="default")
        body = client.V1ConfigMap(metadata=meta, data={"value": value} if value else None)
        if deletes:
            self._api.delete_namespaced_config_map(name, "default")
            known.uid = ""
        else:
            if known.value is None:
                answer = self._api.create_namespaced_config_map("default", body)
            else:
                answer = self._api.replace_namespaced_config_map(name, "default", body)
            assert not known.uid or known.uid == answer.metadata.uid
            known.uid = answer.metadata.uid
            assert int(answer.metadata.resource_version) > known.version
            known.version = int(answer.metadata.resource_version)
        known.value, known.pending = value, []
        self.acknowledged += 1


class Killed:
    """A sandbox whose daemon is killed again and again.

    Args:
        sandbox: The sandbox.
        seed: Of the moments and of what is written.
    """

    def __init__(self, sandbox: SandboxUnderTest, seed: int) -> None:
        self._sandbox = sandbox
        self._chance = random.Random(seed)
        self._known: list[dict[str, Known]] = [{} for _ in range(WRITERS)]
        self._newest = 0
        self.acknowledged = self.unanswered = 0

    def _api(self) -> client.CoreV1Api:
        settings = client.Configuration()
        config.load_kube_config(str(self._sandbox.kubeconfig), client_configuration=settings)
        # A write that was not answered must not be sent again.
        settings.retries = False
        return client.CoreV1Api(client.ApiClient(settings))

    def round(self) -> None:
        """Write, kill, start, compare."""
        daemon = json.loads(self._sandbox.labkit("status", "--name", self._sandbox.name, "--json").stdout)["pid"]
        apis = [self._api() for _ in range(WRITERS)]
        writers = [
            Writer(api, f"w{number}", self._chance.randrange(1 << 30), known)
            for number, (api, known) in enumerate(zip(apis, self._known, strict=True))
        ]
        killer = threading.Timer(self._chance.uniform(0.01, 1.0), os.kill, (daemon, signal.SIGKILL))
        for writer in writers:
            writer.start()
        # In the middle of writes: on a busy machine the first answer takes longer than the kill would.
        wait_until(lambda: any(writer.acknowledged or not writer.is_alive() for writer in writers), what="an answer")
        killer.start()
        for writer in [killer, *writers]:
            writer.join(PATIENCE)
            assert not writer.is_alive()
        for api in apis:
            api.api_client.close()
        refused = [one for writer in writers for one in writer.refused]
        assert not refused, refused
        self.acknowledged += sum(writer.acknowledged for writer in writers)
        up = self._sandbox.labkit("up", "--name", self._sandbox.name)
        assert up.returncode == 0, up.stderr
        self._compare()

    def _compare(self) -> None:
        api = self._api()
        listed = api.list_namespaced_config_map("default")
        api.api_client.close()
        there: dict[str, Any] = {one.metadata.name: one for one in listed.items}
        newest = max([self._newest, *(one.version for known in self._known for one in known.values())])
        assert int(listed.metadata.resource_version) >= newest, "a resourceVersion went back"
        self._newest = int(listed.metadata.resource_version)
        for known in self._known:
            for name, one in known.items():
                found = there.pop(name, None)
                value = None if found is None else found.data["value"]
                assert value in (one.value, *one.pending), f"{name} is neither as acknowledged nor as last sent"
                if found is not None:
                    assert int(found.metadata.resource_version) >= one.version
                    assert one.uid in ("", found.metadata.uid), f"{name} has another uid"
                self.unanswered += bool(one.pending)
                one.uid = found.metadata.uid if found is not None else ""
                one.version = int(found.metadata.resource_version) if found is not None else one.version
                one.value, one.pending = value, []
        assert set(there) <= {"kube-root-ca.crt"}, "an object that nobody made"
