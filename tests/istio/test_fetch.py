# SPDX-License-Identifier: Apache-2.0
"""The official archive: checked, resumed after an interruption, unpacked safely, never half there."""

from __future__ import annotations

import errno
import hashlib
import random
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.ground import download as downloads
from labkit.ground import transfer
from labkit.ground.errors import ReleaseError, SettingError
from labkit.istio import download, facts, fetch
from labkit.istio.fetch import Patience

from .mirror import Mirror, archive, serve, silence_is_the_mirrors

PATH = "/1.2.2/istio-1.2.2-linux.tar.gz"
DEMO = "install/kubernetes/istio-demo.yaml"
PATIENT = Patience(silence=600.0, deadline=600.0)
"""For a server that always answers, however busy the machine is."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "*")
    with serve() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LABKIT_ISTIO_DOWNLOADS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def istio_1_2_2() -> bytes:
    """An archive with the files that make a folder a release, and some bulk that does not compress."""
    layout = facts("1.2.2").layout
    files = {f"istio-1.2.2/{name}": b"kind: List\n" for name in layout.marks}
    files[f"istio-1.2.2/{layout.version_in}"] = b"image: docker.io/istio/pilot:1.2.2\n"
    files["istio-1.2.2/bin/istioctl"] = random.Random(1).randbytes(300_000)
    return archive(files)


def get(mirror: Mirror, patience: Patience = PATIENT) -> Path:
    return fetch.fetch(facts("1.2.2"), base_url=mirror.url, patience=patience, bar=False)


def left(home: Path) -> list[str]:
    """What is in the releases folder, but for locks."""
    folder = home / "releases"
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.exists() else []


def test_the_archive_becomes_a_folder(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    folder = get(mirror)
    assert folder == home / "releases/istio-1.2.2"
    assert (folder / DEMO).read_text() == "image: docker.io/istio/pilot:1.2.2\n"
    assert len((folder / "bin/istioctl").read_bytes()) == 300_000
    assert left(home) == ["istio-1.2.2"]


def test_it_is_fetched_once(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    get(mirror)
    seen = len(mirror.asked)
    get(mirror)
    assert len(mirror.asked) == seen


def test_release_from_the_archive(
    mirror: Mirror, home: Path, istio_1_2_2: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.publish(PATH, istio_1_2_2)
    monkeypatch.setenv("LABKIT_ISTIO_DOWNLOADS", mirror.url + "/")
    monkeypatch.setattr("labkit.ground.transfer.seen_live", lambda: True)
    release = download("1.2.2")
    assert (release.version, release.source) == ("1.2.2", "archive")
    assert release.demo_files == (home / "releases/istio-1.2.2" / DEMO,)
    assert "istio-1.2.2-linux.tar.gz: 100%" in capsys.readouterr().err


def test_an_interrupted_download_goes_on(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.cut = [100_000, 50_000]
    get(mirror)
    assert mirror.bodies(PATH) == ["", "bytes=100000-", "bytes=150000-"]


def test_the_next_run_goes_on_where_this_one_stopped(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.cut = [100_000, 0, 0]
    with pytest.raises(ReleaseError, match=r"(?s)stopped after 0\.1 MB: .*Run it again") as failure:
        get(mirror)
    assert f"100000 of {len(istio_1_2_2)} bytes" in failure.value.message
    assert left(home) == ["istio-1.2.2-linux.tar.gz.partial"]
    get(mirror)
    assert mirror.bodies(PATH)[-1] == "bytes=100000-"
    assert left(home) == ["istio-1.2.2"]


def test_a_server_without_ranges_starts_again(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.ranges = False
    mirror.cut = [100_000]
    folder = get(mirror)
    assert mirror.bodies(PATH) == ["", "bytes=100000-"]
    assert (folder / "bin/istioctl").stat().st_size == 300_000


def test_a_complete_partial_file_is_enough(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    (home / "releases").mkdir(parents=True)
    (home / "releases/istio-1.2.2-linux.tar.gz.partial").write_bytes(istio_1_2_2)
    get(mirror)
    assert mirror.bodies(PATH) == [f"bytes={len(istio_1_2_2)}-"]


@pytest.mark.parametrize("length", [50_000, 400_000], ids=["shorter", "longer"])
def test_a_partial_file_of_something_else_is_thrown_away(
    mirror: Mirror, home: Path, istio_1_2_2: bytes, length: int
) -> None:
    mirror.publish(PATH, istio_1_2_2)
    (home / "releases").mkdir(parents=True)
    (home / "releases/istio-1.2.2-linux.tar.gz.partial").write_bytes(b"x" * length)
    get(mirror)
    assert mirror.bodies(PATH) == [f"bytes={length}-", ""]
    assert left(home) == ["istio-1.2.2"]


def test_a_wrong_checksum_leaves_nothing(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2, checksum="0" * 64)
    found = hashlib.sha256(istio_1_2_2).hexdigest()
    with pytest.raises(ReleaseError, match=f"has SHA-256 {found}, its checksum file says {'0' * 64}"):
        get(mirror)
    assert left(home) == []


def test_no_checksum_no_download(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.files = {PATH: istio_1_2_2}
    with pytest.raises(ReleaseError, match=re.escape(f"{PATH}.sha256: the server answered 404")):
        get(mirror)
    assert mirror.bodies(PATH) == []


def test_404_names_the_address_and_a_way_without_network(mirror: Mirror, home: Path) -> None:
    with pytest.raises(ReleaseError, match=re.escape(f"{mirror.url}{PATH}.sha256: the server answered 404")) as failure:
        get(mirror)
    assert "workshop's own manifests" in failure.value.next_step
    assert left(home) == []


def test_503_is_told(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.status = 503
    with pytest.raises(ReleaseError, match="answered 503 Service Unavailable"):
        get(mirror)


def test_a_server_that_falls_silent_is_given_up(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.cut, mirror.stall = [100_000, 0, 0], True
    with (
        silence_is_the_mirrors(mirror),
        pytest.raises(ReleaseError, match=r"stopped after 0\.1 MB: no byte for 0\.2 s"),
    ):
        get(mirror, Patience(silence=0.2, deadline=600.0))


def test_silence_is_only_an_interruption(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.cut, mirror.stall = [100_000], True
    with silence_is_the_mirrors(mirror):
        assert (get(mirror, Patience(silence=0.2, deadline=600.0)) / DEMO).exists()


def test_the_deadline_holds_for_a_server_that_drips(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    mirror.cut, mirror.stall = [1000] * 100, True
    with silence_is_the_mirrors(mirror), pytest.raises(ReleaseError, match="stopped after"):
        get(mirror, Patience(silence=0.5, deadline=1.5))
    assert len(mirror.bodies(PATH)) < 10


def test_nobody_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serve() as gone:
        pass
    with pytest.raises(ReleaseError, match=r"cannot be reached: .*refused"):
        get(gone)


def test_who_never_answers_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ReleaseError, match="no answer in time"):
            fetch.fetch(facts("1.2.2"), base_url=url, patience=Patience(silence=0.2), bar=False)


def test_only_http(home: Path) -> None:
    with pytest.raises(ReleaseError, match="no http:// or https:// address"):
        fetch.fetch(facts("1.2.2"), base_url="file:///etc", bar=False)


def test_an_archive_of_another_version_is_refused(mirror: Mirror, home: Path) -> None:
    files = {f"istio-1.2.0/{name}": b"" for name in facts("1.2.2").layout.marks}
    files[f"istio-1.2.0/{DEMO}"] = b"image: docker.io/istio/pilot:1.2.0\n"
    mirror.publish(PATH, archive(files))
    with pytest.raises(ReleaseError, match=r"is Istio 1\.2\.0, not 1\.2\.2"):
        download("1.2.2", base_url=mirror.url)


def test_a_release_nobody_teaches() -> None:
    with pytest.raises(SettingError, match=r"(?s)does not teach Istio '1\.9\.9'.*Choose 1\.2\.2 or 1\.30\.3"):
        download("1.9.9")


def test_two_at_once_fetch_it_once(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(get(mirror))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [home / "releases/istio-1.2.2"] * 2
    assert mirror.bodies(PATH) == [""]


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        ({"../evil": b"x"}, []),
        ({"istio-1.2.2/../../evil": b"x"}, []),
        ({"/tmp/labkit-evil": b"x"}, []),
        ({}, [link("istio-1.2.2/out", "../..")]),
        ({}, [link("istio-1.2.2/out", "/etc")]),
        ({}, [link("istio-1.2.2/out", "../../etc/passwd", tarfile.LNKTYPE)]),
        ({}, [link("a", "."), link("a/b", "..")]),
        ({}, [device("istio-1.2.2/null")]),
        ({"istio-1.2.2/\x1b[2Jevil": b"x"}, []),
        ({"istio-1.2.2/evil\n": b"x"}, []),
        ({"istio-1.2.2/\u202elive": b"x"}, []),
        ({}, [link("istio-1.2.2/a", "b\x07")]),
    ],
    ids=[
        "parent",
        "up",
        "absolute",
        "link up",
        "link absolute",
        "hard link",
        "through a link",
        "device",
        "escape",
        "line",
        "bidi",
        "link",
    ],
)
def test_nothing_lands_outside(
    mirror: Mirror, home: Path, files: dict[str, bytes], extra: list[tarfile.TarInfo]
) -> None:
    mirror.publish(PATH, archive({"istio-1.2.2/README": b"", **files}, *extra))
    with pytest.raises(ReleaseError, match="nothing was unpacked"):
        get(mirror)
    assert left(home) == []
    assert not list(home.parent.rglob("evil"))


def test_links_inside_are_fine(mirror: Mirror, home: Path) -> None:
    mirror.publish(PATH, archive({"istio-1.2.2/a": b"text"}, link("istio-1.2.2/b", "a")))
    assert (get(mirror) / "b").read_text() == "text"


def test_a_broken_archive_leaves_no_folder(mirror: Mirror, home: Path, istio_1_2_2: bytes) -> None:
    mirror.publish(PATH, istio_1_2_2[:200_000])
    with pytest.raises(ReleaseError, match=r"is no readable \.tar\.gz"):
        get(mirror)
    assert left(home) == []


def test_a_full_disk_is_told(mirror: Mirror, home: Path, istio_1_2_2: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.publish(PATH, istio_1_2_2)

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_read", full)
    with pytest.raises(ReleaseError, match=r"(?s)the disk is full: .*set LABKIT_HOME"):
        get(mirror)


def test_a_home_that_cannot_be_written(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, istio_1_2_2: bytes
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    mirror.publish(PATH, istio_1_2_2)
    with pytest.raises(ReleaseError, match="cannot be written"):
        get(mirror)


def test_any_archive_with_a_list_of_checksums(mirror: Mirror, tmp_path: Path) -> None:
    content = archive({"prometheus-3.5.0/prometheus": b"program"})
    mirror.files["/prometheus-3.5.0.tar.gz"] = content
    digest = hashlib.sha256(content).hexdigest()
    mirror.files["/sums.txt"] = f"{'1' * 64}  other.tar.gz\n{digest} *prometheus-3.5.0.tar.gz\n".encode()
    url = f"{mirror.url}/prometheus-3.5.0.tar.gz"
    folder = downloads.archive(url, tmp_path, checksums=f"{mirror.url}/sums.txt", bar=False)
    assert (folder / "prometheus").read_bytes() == b"program"
    assert folder == tmp_path / "prometheus-3.5.0"


@pytest.mark.parametrize(
    ("version", "machine", "name"),
    [
        ("1.2.2", "x86_64", "1.2.2/istio-1.2.2-linux.tar.gz"),
        ("1.2.2", "aarch64", "1.2.2/istio-1.2.2-linux.tar.gz"),
        ("1.30.3", "x86_64", "1.30.3/istio-1.30.3-linux-amd64.tar.gz"),
        ("1.30.3", "aarch64", "1.30.3/istio-1.30.3-linux-arm64.tar.gz"),
    ],
)
def test_names_of_archives(version: str, machine: str, name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert fetch.archive_url(facts(version)) == f"{fetch.DOWNLOADS}/{name}"
