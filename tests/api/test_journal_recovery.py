# SPDX-License-Identifier: Apache-2.0
"""A damaged journal is refused, and recovered when that is asked for: what is sound is kept, what is lost is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import istio
from labkit.ground.errors import SandboxError
from meshbox.api.journal.format import read
from meshbox.api.objects import ObjectStore
from meshbox.settings import SandboxSettings

from .conftest import Cluster, config_map
from .journals import appended


def journal_of(settings: SandboxSettings) -> Path:
    return settings.home / "objects" / "journal.jsonl"


def spoil(settings: SandboxSettings, *texts: bytes) -> None:
    """Change one bit in the first record with each of `texts`."""
    content = bytearray(journal_of(settings).read_bytes())
    for text in texts:
        content[content.index(text)] ^= 1
    journal_of(settings).write_bytes(content)


def report(settings: SandboxSettings) -> str:
    (file,) = (settings.home / "objects").glob("recovered-*.txt")
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_text()


@pytest.fixture
def recovered(settings: SandboxSettings):
    """Open the cluster again with `--recover`; closed at the end."""
    opened: list[ObjectStore] = []

    def recover() -> ObjectStore:
        with pytest.raises(SandboxError, match="damaged"):
            ObjectStore(settings)
        opened.append(ObjectStore(replace(settings, recover=True)))
        return opened[0]

    yield recover
    for one in opened:
        one.close()


def test_what_is_before_and_after_the_damage_is_kept(settings, recovered):
    objects = ObjectStore(settings)
    for name in ("first", "lost", "older", "last"):
        objects.create("configmaps", config_map(name, text=f"{name}-one"))
    kept = objects.get("configmaps", "older")
    objects.patch("configmaps", "older", {"data": {"text": "older-two"}})
    objects.create("configmaps", config_map("superseded", text="superseded-one"))
    objects.patch("configmaps", "superseded", {"data": {"text": "superseded-two"}})
    objects.create("configmaps", config_map("end"))
    version, uid = objects.store.version, objects.get("configmaps", "last")["metadata"]["uid"]
    objects.close()
    damaged = journal_of(settings).read_bytes()
    spoil(settings, b"lost-one", b"older-two", b"superseded-one")
    damaged = journal_of(settings).read_bytes()

    after = recovered()
    names = [one["metadata"]["name"] for one in after.list("configmaps", "default")]
    assert names == ["end", "first", "last", "older", "superseded"]
    assert after.get("configmaps", "older") == kept
    assert after.get("configmaps", "superseded")["data"] == {"text": "superseded-two"}
    assert after.get("configmaps", "last")["metadata"]["uid"] == uid
    assert after.store.version > version
    told = report(settings)
    assert "configmaps default/lost: lost, or deleted later" in told
    assert "configmaps default/older: is as it was before, since a later state is lost" in told
    assert "configmaps default/superseded: nothing is lost, a later state is there" in told
    (aside,) = (settings.home / "objects").glob("journal.jsonl.damaged-*")
    assert aside.read_bytes() == damaged
    assert str(aside) in told


def test_a_recovered_journal_is_sound(settings, recovered):
    objects = ObjectStore(settings)
    objects.create("configmaps", config_map("a", text="a-one"))
    objects.close()
    spoil(settings, b"a-one")
    after = recovered()
    created = after.create("configmaps", config_map("b"))
    after.close()
    assert read(journal_of(settings).read_bytes()).damages == []
    again = ObjectStore(settings)
    assert again.get("configmaps", "b") == created
    again.close()


def test_a_deletion_that_is_lost_is_told(settings, recovered):
    objects = ObjectStore(settings)
    objects.create("configmaps", config_map("back"))
    objects.delete("configmaps", "back")
    objects.close()
    spoil(settings, b',"version":' + str(objects.store.version).encode() + b"}\n")
    recovered()
    assert "configmaps default/back: is back, since its deletion is lost" in report(settings)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"labkit-journal 2", b"labkit-journal 3"))


@pytest.mark.parametrize("damage", [empty, cut, garbage, newer, Path.unlink])
def test_a_file_that_is_no_journal_any_more_is_no_empty_cluster(
    settings: SandboxSettings, recovered: Callable[[], ObjectStore], damage: Callable[[Path], None]
) -> None:
    objects = ObjectStore(settings)
    objects.create("configmaps", config_map("a"))
    objects.close()
    # As the API server does when it first answers.
    (settings.home / "kubeconfig").write_text("{}")
    damage(journal_of(settings))
    recovered()
    assert "journal.jsonl was damaged" in report(settings)


def test_the_first_start_needs_no_journal(settings):
    ObjectStore(settings).close()
    assert read(journal_of(settings).read_bytes()).damages == []


def former(settings: SandboxSettings) -> tuple[Path, list[bytes], dict[str, object]]:
    """A journal as it was written before records had checksums."""
    objects = ObjectStore(settings)
    created = objects.create("configmaps", config_map("kept", a="ä"))
    lines = [b'{"journal":"labkit objects","format":1}']
    for resource in objects.store.resources():
        for entry in objects.store.entries(resource):
            lines.append(b'{"put":"%s","object":%s}' % (resource.encode(), entry.raw))
    meta = {"name": "gone", "namespace": "default", "uid": "u", "resourceVersion": "900"}
    lines.append(b'{"put":"configmaps","object":' + json.dumps({"kind": "ConfigMap", "metadata": meta}).encode() + b"}")
    lines.append(b'{"delete":"configmaps","namespace":"default","name":"gone","version":901}')
    objects.close()
    return journal_of(settings), lines, created


def test_a_journal_of_the_former_format_is_read_and_converted(settings):
    path, lines, created = former(settings)
    path.write_bytes(b"\n".join(lines) + b"\n" + b'{"put":"configmaps","obj')
    for _ in range(2):
        objects = ObjectStore(settings)
        assert objects.get("configmaps", "kept") == created
        assert objects.find("configmaps", "gone") is None
        assert objects.store.version == 901
        assert objects.store.aside == []
        objects.close()
        assert path.read_bytes().startswith(b"labkit-journal 2 ")


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_a_whole_mesh_of_the_former_format_is_brought_back(cluster: Cluster, release: str) -> None:
    """None of the workshop's own objects is taken for one that cannot be understood."""
    files = istio.release(release)
    bookinfo = [files.samples / "bookinfo" / name for name in ("platform/kube/bookinfo.yaml", "networking")]
    await cluster.kubectl("create", "namespace", "istio-system", check=False)
    for file in (*files.crd_files, *files.demo_files, *files.addon_files, *bookinfo):
        await cluster.kubectl("apply", "--validate=false", "-f", str(file), check=False)
    store = cluster.objects.store
    kept = {(name, entry.raw) for name in store.resources() for entry in store.entries(name)}
    assert len(kept) > 80
    lines = [b'{"put":"%s","object":%s}' % (name.encode(), raw) for name, raw in kept]
    home = cluster.home / "former"
    (home / "objects").mkdir(parents=True)
    head = b'{"journal":"labkit objects","format":1}'
    (home / "objects" / "journal.jsonl").write_bytes(b"\n".join([head, *lines, b""]))
    objects = ObjectStore(replace(cluster.settings, home=home))
    objects.close()
    assert [(str(one), one.why) for one in objects.store.aside] == []
    assert {(name, entry.raw) for name in objects.store.resources() for entry in objects.store.entries(name)} == kept


@pytest.mark.parametrize(
    "line", [b'{"qut":"configmaps","object":{}}', b'{"put":"configmaps"}', b"\x00\x00", b"[]", b""]
)
def test_a_damaged_journal_of_the_former_format_is_refused_and_recovered(settings, recovered, line):
    path, lines, created = former(settings)
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]) + b"\n")
    objects = recovered()
    assert objects.get("configmaps", "kept") == created
    assert "record 2 at byte" in report(settings)


def test_records_of_a_journal_that_another_version_wrote_are_checked(settings, recovered):
    """An object that today's API would refuse, from a labkit that did not."""
    objects = ObjectStore(settings)
    pod = {"containers": [{"name": "c", "image": "i"}]}
    objects.create("pods", {"metadata": {"name": "odd"}, "spec": pod})
    entry = objects.store.entry("pods", ("default", "odd"))
    objects.close()
    raw = entry.raw.replace(b'"containers":[', b'"nodeName":{"a":1},"containers":[')
    appended(
        journal_of(settings),
        b'{"put":"pods","namespace":"default","name":"odd","version":900,"object":%s}' % raw,
    )
    content = journal_of(settings).read_bytes()
    journal_of(settings).write_bytes(content[:40] + b"x" + content[41:])
    after = recovered()
    assert after.find("pods", "odd", "default") is None
    (event,) = [one for one in after.list("events", "default") if one["reason"] == "SetAside"]
    assert "cannot unmarshal object into Go struct field PodSpec.spec.nodeName of type string" in event["message"]
