# SPDX-License-Identifier: Apache-2.0
"""A fault of the server's own: what a client is told, what is in the log, and that the rest goes on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import force_setattr

from meshbox.api.representations import View
from meshbox.api.rest import Rest
from meshbox.api.tables.printer_columns import built_in
from tests.faulty import Fault

from .conftest import Cluster, config_map, eventually

PYTHON = re.compile(r"Traceback|KeyError|File \"|unforeseen|\.py\b")
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
MAPS = "/api/v1/namespaces/default/configmaps"


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("unforeseen")


async def test_a_500_says_where_its_log_is_and_how_to_report_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(*_: Any) -> Any:
        # A place of its own: an error that was met before has its traceback before.
        raise KeyError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(Rest, "serve", serve)
        replies = [await cluster.request("GET", MAPS) for _ in range(3)]
    for reply in replies:
        assert reply.status == 500
        status = reply.body
        assert (status["kind"], status["reason"], status["code"]) == ("Status", "InternalError", 500)
        assert status["message"] == Fault()
        assert not PYTHON.search(json.dumps(status))
    # The traceback once, under the id that stands in each answer.
    [number] = {re.search(r"\(([0-9a-f]{8})\)", reply.body["message"])[1] for reply in replies}  # type: ignore[index]
    ours = [one for one in caplog.records if number in one.getMessage()]
    assert [bool(one.exc_info) for one in ours] == [True, False]
    assert ours[0].getMessage() == f"GET {MAPS} failed ({number})"
    assert (await cluster.request("GET", MAPS)).status == 200


async def test_kubectl_shows_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rest, "serve", broken)
    said = await cluster.kubectl("get", "configmaps", check=False)
    assert "Error from server (InternalError): an internal error of the sandbox (" in said.err
    assert not PYTHON.search(said.err)


async def test_an_object_that_cannot_be_shown_keeps_its_line_in_the_table(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        cluster.objects.create("configmaps", config_map(name, a="1"), "default")
    table = built_in("configmaps")
    assert table is not None
    real = table.cells

    def cells(obj: Any, at: Any) -> Any:
        if obj["metadata"]["name"] == "bad":
            raise ZeroDivisionError
        return real(obj, at)

    force_setattr(table, "cells", cells)
    try:
        reply = await cluster.request("GET", MAPS, headers=TABLE)
    finally:
        force_setattr(table, "cells", real)
    rows = {row["cells"][0]: row["cells"][1:] for row in reply.body["rows"]}
    assert rows["bad"] == ["<invalid>", "<invalid>"]
    assert rows["good"][0] == 1


async def test_a_watch_ends_with_the_words(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = View.event

    def event(self: View, kind: str, entry: Any) -> bytes:
        if entry.obj["metadata"]["name"] == "bad":
            raise KeyError("unforeseen")
        return real(self, kind, entry)

    monkeypatch.setattr(View, "event", event)
    for name in ("good", "bad"):
        await cluster.request("DELETE", f"{MAPS}/{name}")
    version = (await cluster.request("GET", MAPS)).body["metadata"]["resourceVersion"]
    for name in ("good", "bad"):
        cluster.objects.create("configmaps", config_map(name), "default")
    reply = await cluster.request("GET", f"{MAPS}?watch=true&resourceVersion={version}")
    *_, last = [json.loads(line) for line in reply.text.splitlines()]
    assert last["type"] == "ERROR"
    assert (last["object"]["code"], last["object"]["message"]) == (500, Fault())
    await eventually(lambda: len(cluster.server.watches) == 0, "the watch has ended")
