# SPDX-License-Identifier: Apache-2.0
"""`labkit report`: all that helps to find a fault, and none of a sandbox's secrets, in whatever state it is."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from meshbox.report.secrecy import MARK, Secrecy
from tests.conftest import SandboxUnderTest, wait_until

PEM = "-----BEGIN {0}PRIVATE KEY-----\n{1}\n-----END {0}PRIVATE KEY-----\n"
SECRETS = {
    "in a Secret": "correct horse/battery+staple?",
    "text of a Secret": 'l1ne one\n"quoted" & more ünïcode',
    "of a registry": "r3gistry-pa55",
    "in a variable": "env-hunter2-value",
    "in a variable of no telling name": "Zq8vN2kLw0pXr7TbYc4M9s",
    "in an option": "opt-swordfish-1",
    "after an option": "opt-swordfish-2",
    "in a ConfigMap": "cm-passw0rd-xyz",
    "in a header": "aGVhZGVyOnNlY3JldC1oZWFkZXI",
    "in a URL": "url-s3cret",
    "in an annotation": "annotat3d-value",
    "a token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlLW9mLXg",
    "deleted since": "gone-but-in-the-l0g",
}


def forms(secret: str) -> set[bytes]:
    """How a secret may be written."""
    raw = secret.encode()
    texts = {secret, quote(secret, safe=""), quote_plus(secret), raw.hex(), json.dumps(secret)[1:-1]}
    texts |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return {text.encode() for text in texts}


def objects() -> list[dict[str, Any]]:
    s = SECRETS
    registry = json.dumps({"auths": {"r.example": {"username": "u", "password": s["of a registry"]}}})
    key = PEM.format("RSA ", "TUlJRXBBSUJBQUtDQVFFQXJlYWxseXNlY3JldGtleWJvZHk")
    container = {
        "name": "c",
        "image": "busybox:1.28",
        "command": ["sh", "-c", f"echo said {s['in a Secret']} {s['deleted since']}; echo visible-words; sleep 1000"],
        "args": [f"--password={s['in an option']}", "--api-token", s["after an option"]],
        "env": [
            {"name": "DB_PASSWORD", "value": s["in a variable"]},
            {"name": "SALT_AND_PEPPER", "value": s["in a variable of no telling name"]},
            {"name": "COLOUR", "value": "blue-and-visible"},
            {"name": "UPSTREAM", "value": f"http://user:{s['in a URL']}@example.com/"},
            {"name": "HEADER", "value": f"Authorization: Basic {s['in a header']}"},
            {"name": "JWT", "value": s["a token"]},
        ],
    }
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "raw", "annotations": {"example.com/token": s["in an annotation"]}},
            "stringData": {"a": s["in a Secret"], "b": s["text of a Secret"], ".dockerconfigjson": registry, "k": key},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gone"}, "stringData": {"a": s["deleted since"]}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"app.yaml": f"colour: visible-colour\npassword: {s['in a ConfigMap']}\n", "password": "x" * 8},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
        },
    ]


@pytest.fixture(scope="module")
def sandbox(start_shared: Callable[..., SandboxUnderTest]) -> SandboxUnderTest:
    return start_shared("1.30.3", name="report")


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxUnderTest]]:
    from tests.conftest import sandboxes

    with sandboxes(tmp_path_factory) as start:
        yield start


def report(sandbox: SandboxUnderTest, folder: Path, *options: str) -> tuple[dict[str, bytes], str]:
    """What is in a new report, and what was printed."""
    command = [sys.executable, "-m", "labkit", "report", "--name", sandbox.name, *options]
    done = subprocess.run(command, env=sandbox.env, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("*.tar.gz")
    assert str(file) in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        found = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}  # type: ignore[union-attr]
    file.unlink()
    return found, done.stdout


def expect_no_secret(found: dict[str, bytes], sandbox: SandboxUnderTest) -> None:
    own = {"token": (sandbox.home / "token").read_text().strip()}
    ca = (sandbox.home / "ca.key").read_text()
    own["a line of its key"] = ca.splitlines()[1]
    for what, secret in {**SECRETS, **own}.items():
        for form in forms(secret):
            where = [name for name, content in found.items() if form in content]
            assert where == [], f"{what}, as {form!r}"
    everything = b"".join(found.values())
    assert b"PRIVATE KEY" not in everything
    assert b"TUlJRXBBSUJBQUtDQVFFQXJlYWxseXNlY3JldGtleWJvZHk" not in everything


def expect_all(found: dict[str, bytes]) -> None:
    parsed = {name: json.loads(found[f"report/{name}.json"]) for name in ("versions", "doctor", "status")}
    assert parsed["versions"]["libraries"]["aiohttp"]
    assert {"kubectl", "envoy", "prometheus"} <= {one["subject"] for one in parsed["doctor"]}
    assert parsed["status"]["name"] == "report"
    assert b"sandbox on 127." in found["report/logs/daemon.log"]
    kinds = {Path(name).stem for name in found if name.startswith("report/objects/")}
    assert {"pods", "events", "secrets", "configmaps", "deployments.apps", "nodes", "namespaces"} <= kinds
    [secret] = [one for one in json.loads(found["report/objects/secrets.json"]) if one["metadata"]["name"] == "raw"]
    assert set(secret["data"].values()) == {MARK}
    assert set(secret["data"]) == {"a", "b", ".dockerconfigjson", "k"}
    everything = b"".join(found.values())
    for word in (b"blue-and-visible", b"visible-colour", b"DB_PASSWORD", b"SALT_AND_PEPPER"):
        assert word in everything
    assert any(name.startswith("report/logs/pods/default.web-") and b"visible-words" in found[name] for name in found)


def test_a_report_of_each_state_has_all_but_secrets(sandbox: SandboxUnderTest, tmp_path: Path) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()})
    sandbox.kubectl("apply", "-f", "-", stdin=text)
    sandbox.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    sandbox.kubectl("delete", "secret", "gone")
    with open(sandbox.home / "daemon.log", "a") as log:
        log.write(f"GET /x Authorization: Bearer {SECRETS['in a header']}\n--with 4711:99 {SECRETS['in a Secret']}\n")
    wait_until(lambda: "visible-words" in sandbox.kubectl("logs", "deployment/web").stdout)

    found, said = report(sandbox, tmp_path)
    expect_all(found)
    expect_no_secret(found, sandbox)
    assert json.loads(found["report/status.json"])["state"] == "running"
    assert "It stays here: nothing is sent anywhere." in said
    assert "not packed" not in said
    assert b"4711:99" not in found["report/logs/daemon.log"]

    pid = json.loads(sandbox.labkit("status", "--name", "report", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: json.loads(sandbox.labkit("status", "--name", "report", "--json").stdout)["state"] == "crashed")
    found, _ = report(sandbox, tmp_path)
    expect_all(found)
    expect_no_secret(found, sandbox)
    assert json.loads(found["report/status.json"])["state"] == "crashed"

    assert sandbox.labkit("down", "--name", "report").returncode == 0
    journal = sandbox.home / "objects" / "journal.jsonl"
    whole = journal.read_bytes()
    middle = whole.index(b"\n", len(whole) // 2) - 20
    journal.write_bytes(whole[:middle] + b"XXXX" + whole[middle + 4 :])
    found, said = report(sandbox, tmp_path)
    expect_no_secret(found, sandbox)
    assert f"not packed: objects: {journal}: " in said
    assert b"not packed: objects: " in found["report/README.txt"]
    assert "report/objects/pods.json" in found
    journal.write_bytes(whole)

    journal.unlink()
    found, said = report(sandbox, tmp_path)
    expect_no_secret({n: c for n, c in found.items() if n == "report/README.txt"}, sandbox)
    assert "not packed: objects: No such file or directory" in said
    journal.write_bytes(whole)


def test_a_file_that_is_there_is_left_alone(sandbox: SandboxUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("kept")
    done = sandbox.labkit("report", "--name", "report", "--out", str(file))
    assert done.returncode == 1
    assert done.stderr == f"labkit: {file} is there already\n→ name another file: --out FILE\n"
    assert file.read_text() == "kept"


def test_a_cluster_of_ones_own_is_refused(sandbox: SandboxUnderTest) -> None:
    done = sandbox.labkit("report", "--target", "production")
    assert done.returncode == 1
    assert "nothing of the cluster behind 'production' is read or packed" in done.stderr


def test_without_a_sandbox_there_are_versions_and_findings(sandbox: SandboxUnderTest, tmp_path: Path) -> None:
    elsewhere = SandboxUnderTest("none", "1.30.3", tmp_path / "home", tmp_path / "kubeconfig", "")
    folder = tmp_path / "folder"
    folder.mkdir()
    found, said = report(elsewhere, folder)
    assert set(found) == {f"report/{name}" for name in ("README.txt", "versions.json", "doctor.json", "status.json")}
    assert "not packed: logs and objects: there is no sandbox 'none'" in said


@pytest.mark.parametrize("secret", [one for one in SECRETS.values() if "\n" not in one])
def test_what_is_known_is_taken_out_in_every_form(secret: str) -> None:
    secrecy = Secrecy()
    secrecy.learn(secret)
    for form in forms(secret):
        assert form.decode() not in secrecy.without_known(f"before {form.decode()} after")
    for user in ("u", "us", "use"):
        inside = base64.b64encode(f"{user}:{secret}:more".encode()).decode()
        assert inside not in secrecy.without_known(f"x {inside} y")


@pytest.mark.parametrize(
    "text",
    [
        "image: busybox:1.28",
        "http://example.com:80/path",
        "reviews-v1-7d4f6b9c8-abcde is ready",
        "2026-11-26T04:00:00Z GET /productpage 200 via outbound|9080|v1|reviews.default.svc.cluster.local",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert Secrecy().text(text) == text


def test_what_is_public_in_a_secret_and_a_short_word_within_another_stay() -> None:
    secrecy = Secrecy()
    data = {"namespace": "istio-system", "ca.crt": "-----BEGIN CERTIFICATE-----\nMIIB\n", "username": "admin"}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    secrecy.learn_object("secrets", {"data": encoded})
    text = "istiod.istio-system: proxyadminPort -----BEGIN CERTIFICATE----- login admin"
    assert secrecy.text(text) == f"istiod.istio-system: proxyadminPort -----BEGIN CERTIFICATE----- login {MARK}"
    assert secrecy.text("secret:\n  optional: true") == "secret:\n  optional: true"


@pytest.mark.parametrize("name", ["token", "API_KEY", "db.password", "clientSecret", "Authorization"])
def test_fields_that_say_secret_lose_their_value(name: str) -> None:
    shown = Secrecy().object("configmaps", {"data": {name: "abc", "colour": "blue"}, "metadata": {"name": "x"}})
    assert shown == {"data": {name: MARK, "colour": "blue"}, "metadata": {"name": "x"}}
