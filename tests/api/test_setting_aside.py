# SPDX-License-Identifier: Apache-2.0
"""Whatever is stored, the rest starts: what cannot be understood is set aside in a file, with an event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshbox.api.journal.format import read
from meshbox.api.objects import ObjectStore
from meshbox.settings import SandboxSettings

from .conftest import config_map
from .journals import appended


def put(resource: str, name: str, obj: bytes, namespace: str = "default") -> bytes:
    about = (resource.encode(), namespace.encode(), name.encode())
    return b'{"put":"%s","namespace":"%s","name":"%s","version":500,"object":%s}' % (*about, obj)


META = b'"metadata":{"name":"odd","namespace":"default","uid":"u-1","resourceVersion":"500"'
KIND = b'"apiVersion":"v1","kind":"ConfigMap"'
CRD = b"customresourcedefinitions.apiextensions.k8s.io"

ODD = {
    "no object": (put("configmaps", "odd", b"[]"), "it is no object"),
    "a number": (put("configmaps", "odd", b"7"), "it is no object"),
    "no metadata": (put("configmaps", "odd", b'{"kind":"ConfigMap"}'), "it has no metadata"),
    "no json": (put("configmaps", "odd", b"{"), "it is no JSON"),
    "deep": (put("configmaps", "odd", b"{%s}," % META + b'"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "it is"),
    "deep spec": (
        put("configmaps", "odd", b'{"spec":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001),
        "nested too deeply",
    ),
    "another's name": (put("configmaps", "odd", b'{"metadata":{"name":"even","namespace":"default"}}'), "of another"),
    "no uid": (
        put("configmaps", "odd", b'{%s,"metadata":{"name":"odd","namespace":"default"}}' % KIND),
        "metadata.uid",
    ),
    "labels": (put("configmaps", "odd", b'{%s,%s,"labels":["a"]}}' % (KIND, META)), "metadata.labels"),
    "owners": (put("configmaps", "odd", b'{%s,%s,"ownerReferences":[1]}}' % (KIND, META)), "ownerReferences"),
    "another kind": (put("configmaps", "odd", b'{"apiVersion":"v1","kind":"Pod",%s}}' % META), "its kind is not"),
    "no kind": (put("configmaps", "odd", b"{%s}}" % META), "its kind is not ConfigMap"),
    "not served": (put("widgets.example.com", "odd", b"{%s,%s}}" % (KIND, META)), "its kind is not served"),
    "no spec": (put("pods", "odd", b'{"apiVersion":"v1","kind":"Pod",%s}}' % META), "it has no spec"),
}


@pytest.fixture
def journal(settings: SandboxSettings) -> Path:
    """The journal of a cluster with one ConfigMap."""
    objects = ObjectStore(settings)
    objects.create("configmaps", config_map("fine", a="1"))
    objects.close()
    return settings.home / "objects" / "journal.jsonl"


def events(objects: ObjectStore, namespace: str = "default") -> list[dict]:
    return [one for one in objects.list("events", namespace) if one["reason"] == "SetAside"]


@pytest.mark.parametrize("what", ODD)
def test_an_odd_object_is_set_aside_and_the_rest_starts(settings, journal, caplog, what):
    payload, why = ODD[what]
    appended(journal, payload)
    objects = ObjectStore(settings)
    try:
        assert objects.get("configmaps", "fine")["data"] == {"a": "1"}
        assert objects.find("configmaps", "odd") is None
        (event,) = events(objects)
        assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "odd")
        assert why in event["message"]
        (file,) = (journal.parent / "set-aside").iterdir()
        assert str(file) in event["message"]
        assert file.read_bytes() == payload.partition(b',"object":')[2][:-1]
        assert file.stat().st_mode & 0o777 == 0o600
        assert "was set aside" in caplog.text
        assert objects.store.version > 500
    finally:
        objects.close()
    # Once: the next start has no trouble with it any more.
    objects = ObjectStore(settings)
    assert (objects.store.aside, len(events(objects))) == ([], 1)
    objects.close()
    assert read(journal.read_bytes()).damages == []


def test_a_record_of_nothing_is_set_aside(settings, journal):
    appended(journal, b"[]", b'{"put":"configmaps"}', b"\xff\xfe")
    objects = ObjectStore(settings)
    assert objects.get("configmaps", "fine")["data"] == {"a": "1"}
    assert len(events(objects)) == 3
    objects.close()
    assert [file.read_bytes() for file in sorted((journal.parent / "set-aside").iterdir())] == [
        b'{"put":"configmaps"}',
        b"\xff\xfe",
        b"[]",
    ]
    objects = ObjectStore(settings)
    assert objects.store.aside == []
    objects.close()


def test_an_odd_object_of_a_namespace_that_is_gone_is_told_of_in_the_default_one(settings, journal):
    odd = b'{%s,"metadata":{"name":"odd","namespace":"nowhere"}}' % KIND
    appended(journal, put("configmaps", "odd", odd, "nowhere"))
    objects = ObjectStore(settings)
    (event,) = events(objects)
    assert "configmaps nowhere/odd could not be understood" in event["message"]
    objects.close()


@pytest.mark.parametrize("spec", [b"[]", b"{}", b'{"group":"example.com","names":7,"versions":[1]}'])
def test_a_definition_that_defines_nothing_is_set_aside_with_its_objects(settings, journal, spec):
    name = "widgets.example.com"
    meta = {"name": name, "uid": "u-2", "resourceVersion": "501"}
    status = {"conditions": [{"type": "Established", "status": "True"}]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta}
    text = json.dumps({**crd, "status": status})[:-1].encode() + b',"spec":' + spec + b"}"
    widget = b'{"apiVersion":"example.com/v1","kind":"Widget",%s}}' % META
    appended(journal, put(CRD.decode(), name, text, ""), put(name, "odd", widget))
    objects = ObjectStore(settings)
    assert name not in objects.resources()
    assert sorted(one["involvedObject"]["kind"] for one in events(objects)) == ["CustomResourceDefinition", "Widget"]
    assert objects.list("customresourcedefinitions.apiextensions.k8s.io") == []
    objects.close()


def test_what_was_set_aside_can_be_applied_again(settings, journal):
    """What is in the file is the object and nothing else."""
    widget = b'{"apiVersion":"example.com/v1","kind":"Widget",%s}}' % META
    appended(journal, put("widgets.example.com", "odd", widget))
    objects = ObjectStore(settings)
    (one,) = objects.store.aside
    assert json.loads(one.file.read_text())["kind"] == "Widget"
    objects.close()
