# SPDX-License-Identifier: Apache-2.0
"""Objects last: through a kill, a torn line, a full disk; and a damaged file is said to be one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.ground.errors import SandboxError
from meshbox.api import journal
from meshbox.api.journal import format as journal_format
from meshbox.api.objects import ObjectStore
from meshbox.contracts import ApiError
from meshbox.settings import SandboxSettings

from .conftest import config_map, deployment


def journal_of(settings: SandboxSettings) -> Path:
    return settings.home / "objects" / "journal.jsonl"


def test_objects_are_back_after_a_restart(settings: SandboxSettings) -> None:
    first = ObjectStore(settings)
    created = first.create("configmaps", config_map("kept", a="ä"))
    first.create("configmaps", config_map("gone"))
    first.delete("configmaps", "gone")
    version = first.store.version
    first.close()

    second = ObjectStore(settings)
    try:
        assert second.get("configmaps", "kept") == created
        assert second.find("configmaps", "gone") is None
        assert second.store.version == version
        newer = second.create("configmaps", config_map("new"))
        assert int(newer["metadata"]["resourceVersion"]) == version + 1
    finally:
        second.close()


def test_quantities_kept_in_another_form_are_read_in_the_one(settings: SandboxSettings) -> None:
    first = ObjectStore(settings)
    first.create("deployments.apps", deployment())
    made = first.get("deployments.apps", "web")
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "0.5"}}
    first.store.put("deployments.apps", ("default", "web"), made)
    first.close()
    second = ObjectStore(settings)
    try:
        (container,) = second.get("deployments.apps", "web")["spec"]["template"]["spec"]["containers"]
        assert container["resources"] == {"limits": {"cpu": "500m"}}
    finally:
        second.close()


def test_objects_survive_a_kill_of_the_process(settings: SandboxSettings) -> None:
    script = f"""
import os, signal
from pathlib import Path
from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.settings import SandboxSettings

objects = ObjectStore(SandboxSettings("test", Path({str(settings.home)!r}), "1.30.3", AddressPlan(7), token="t" * 43))
for index in range(100):
    objects.create("configmaps", {{"metadata": {{"name": f"map-{{index}}"}}}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == -9
    objects = ObjectStore(settings)
    try:
        maps = {one["metadata"]["name"] for one in objects.list("configmaps", "default")}
        assert maps == {f"map-{index}" for index in range(100)}
    finally:
        objects.close()


def test_a_torn_last_line_is_dropped(settings: SandboxSettings, caplog: pytest.LogCaptureFixture) -> None:
    objects = ObjectStore(settings)
    objects.create("configmaps", config_map("whole"))
    objects.close()
    path = journal_of(settings)
    whole = path.read_bytes()
    reading = journal_format.read(whole)
    torn = journal_format.encode(reading.header.id, len(reading.records) + 1, b'{"put":"configmaps"}')[:40]
    with path.open("ab") as out:
        out.write(torn)

    objects = ObjectStore(settings)
    try:
        assert "never finished" in caplog.text
        assert [one["metadata"]["name"] for one in objects.list("configmaps")] == ["whole"]
        objects.create("configmaps", config_map("next"))
    finally:
        objects.close()
    after = journal_format.read(path.read_bytes())
    assert (after.damages, after.torn) == ([], 0)
    assert len(after.records) == len(reading.records) + 1


@pytest.mark.parametrize(
    "damage",
    [b"\x00\x00\x00\n", b"[]\n", b'{"put":"configmaps"}\n', b'{"put":"configmaps","object":{"metadata":{}}}\n'],
)
def test_a_damaged_file_is_named_and_the_next_step_given(settings: SandboxSettings, damage: bytes) -> None:
    ObjectStore(settings).close()
    path = journal_of(settings)
    content = path.read_bytes()
    path.write_bytes(content + damage + b'{"version":1}\n')
    with pytest.raises(SandboxError) as caught:
        ObjectStore(settings)
    number = len(journal_format.read(content).records) + 1
    assert str(path) in caught.value.message
    assert f"record {number} at byte {len(content)}: it is not as it was written" in caught.value.message
    assert "`meshbox up --name test --recover`" in caught.value.next_step


def test_a_second_process_is_refused(objects: ObjectStore, settings: SandboxSettings) -> None:
    with pytest.raises(SandboxError, match="in use by another process"):
        ObjectStore(settings)


def test_a_file_that_may_not_be_written_is_a_clear_error(settings: SandboxSettings) -> None:
    (settings.home / "objects").mkdir()
    journal_of(settings).mkdir()
    with pytest.raises(SandboxError, match="cannot be opened"):
        ObjectStore(settings)


def test_a_full_disk_refuses_the_write_and_leaves_nothing_half_done(
    objects: ObjectStore, settings: SandboxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.create("configmaps", config_map("before", a="1"))
    version, size = objects.store.version, journal_of(settings).stat().st_size
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset == size:
            return real(fd, data[:10], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "pwrite", full)
        with pytest.raises(ApiError) as caught:
            objects.create("configmaps", config_map("refused"))
        assert caught.value.code == 507
        assert 'configmaps "refused" could not be saved' in caught.value.message
        assert "the disk is full (No space left on device)" in caught.value.message
        assert "Make room there" in caught.value.message
        assert caught.value.details == {"name": "refused", "kind": "configmaps"}
        with pytest.raises(ApiError):
            objects.patch("configmaps", "before", {"data": {"a": "2"}})
        with pytest.raises(ApiError):
            objects.delete("configmaps", "before")
    assert journal_of(settings).stat().st_size == size
    assert objects.store.version == version
    assert objects.find("configmaps", "refused") is None
    assert objects.get("configmaps", "before")["data"] == {"a": "1"}
    objects.create("configmaps", config_map("after"))
    assert objects.get("configmaps", "after")["metadata"]["resourceVersion"] == str(version + 1)


def test_an_event_on_a_full_disk_is_dropped(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    involved = objects.create("configmaps", config_map("a"))

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "pwrite", full)
        objects.event(involved, "Normal", "Seen", "words", "test")
    assert objects.list("events") == []


def test_the_file_is_compacted_and_nothing_is_lost(settings: SandboxSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 20_000)
    objects = ObjectStore(settings)
    fresh = journal_of(settings).stat().st_size
    objects.create("configmaps", config_map("counter", n="0"))
    for index in range(1, 1600):
        objects.patch("configmaps", "counter", {"data": {"n": str(index)}})
    version = objects.store.version
    # Begun at twice what there is, waited for at four times as much, however slow the disk is; records are smaller.
    assert journal_of(settings).stat().st_size < 4 * (fresh + 4_000)
    with pytest.raises(SandboxError):
        ObjectStore(settings)
    objects.close()
    objects = ObjectStore(settings)
    try:
        assert objects.get("configmaps", "counter")["data"] == {"n": "1599"}
        assert objects.store.version == version
    finally:
        objects.close()


def test_a_compaction_that_fails_keeps_the_old_file(
    settings: SandboxSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 20_000)

    def broken(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    objects = ObjectStore(settings)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "replace", broken)
            for index in range(200):
                objects.create("configmaps", config_map(f"m{index}", text="x" * 100))
            objects.store.flush()
        assert "could not be compacted" in caplog.text
        assert len(objects.list("configmaps")) == 200
        assert not list(settings.home.glob("objects/*.new"))
    finally:
        objects.close()
    objects = ObjectStore(settings)
    try:
        assert len(objects.list("configmaps")) == 200
    finally:
        objects.close()


def test_files_are_the_owners_alone(objects: ObjectStore, settings: SandboxSettings) -> None:
    assert journal_of(settings).stat().st_mode & 0o777 == 0o600
    assert (settings.home / "objects").stat().st_mode & 0o777 == 0o700
