# SPDX-License-Identifier: Apache-2.0
"""Manifests on their way: each fault is one error that names the file, the place and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labkit import cluster
from labkit.ground.errors import ClusterError
from tests.cluster.fake_kubectl import FakeKubectl

pytestmark = pytest.mark.usefixtures("unwatched")

GOOD = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: class\n"


def test_a_file_is_applied_by_its_path(
    kubectl: FakeKubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ns.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    kubectl.answer("apply", stdout="namespace/class created\n")
    assert cluster.apply(tmp_path / "ns.yaml", namespace="x") == "namespace/class created\n"
    assert kubectl.commands == ["apply -f ns.yaml -n x"]
    assert capsys.readouterr().out == "$ kubectl apply -f ns.yaml -n x\nnamespace/class created\n"


def test_text_and_objects_go_through_stdin_and_are_shown(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answer("apply", stdout="ok\n")
    cluster.apply(GOOD)
    assert kubectl.calls[0]["stdin"] == GOOD
    assert capsys.readouterr().out.startswith("$ kubectl apply -f - <<EOF\n> apiVersion: v1\n")
    cluster.apply(yaml.safe_load(GOOD), show=False)
    assert yaml.safe_load(kubectl.calls[1]["stdin"]) == yaml.safe_load(GOOD)
    cluster.apply([{"kind": "A"}, {"kind": "B"}], show=False)
    assert [d["kind"] for d in yaml.safe_load_all(kubectl.calls[2]["stdin"])] == ["A", "B"]


def test_a_folder_of_manifests_is_applied_whole(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "addons").mkdir()
    (tmp_path / "addons" / "kiali.yaml").write_text(GOOD)
    kubectl.answer("apply", stdout="ok")
    cluster.apply(tmp_path / "addons", show=False)
    assert kubectl.calls[0]["words"][:2] == ["apply", "-f"]
    assert kubectl.calls[0]["words"][2].endswith("addons")


def test_delete_ignores_what_is_not_there(kubectl: FakeKubectl) -> None:
    kubectl.answer("delete", stdout="gone")
    cluster.delete(GOOD, show=False)
    cluster.delete(GOOD, ignore_not_found=False, show=False)
    assert kubectl.commands == [
        "delete --ignore-not-found=true -f -",
        "delete --ignore-not-found=false -f -",
    ]


def test_a_missing_file_names_what_is_there(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "bookinfo.yaml").write_text(GOOD)
    with pytest.raises(ClusterError, match=r"there is no file .*bokinfo\.yaml") as caught:
        cluster.apply(tmp_path / "bokinfo.yaml")
    assert "bookinfo.yaml" in caught.value.next_step
    assert kubectl.calls == []


def test_a_folder_without_manifests(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    with pytest.raises(ClusterError, match="images is a folder, not a manifest") as caught:
        cluster.apply(tmp_path / "images")
    assert "a.png" in caught.value.next_step
    assert kubectl.calls == []


def test_ten_megabytes(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * 10_000_000)
    with pytest.raises(ClusterError, match=r"big\.yaml has 10\.0 MB; a manifest has at most 8\.4 MB"):
        cluster.apply(tmp_path / "big.yaml")
    assert kubectl.calls == []


def test_not_utf_8(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kind: Namespace\nmetadata:\n  name: caf\xe9\n")
    with pytest.raises(ClusterError, match=r"latin\.yaml is not UTF-8 text: byte 0xe9 in line 3 \(byte 37\)") as caught:
        cluster.apply(tmp_path / "latin.yaml")
    assert "Save it as UTF-8" in caught.value.next_step
    assert kubectl.calls == []


def test_broken_yaml_shows_line_and_column(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "gw.yaml").write_text(GOOD + "---\nkind: Gateway\nspec: a: b\n")
    with pytest.raises(ClusterError) as caught:
        cluster.apply(tmp_path / "gw.yaml")
    assert "gw.yaml is not YAML: mapping values are not allowed" in caught.value.message
    assert "line 7, column 8:\n  spec: a: b\n         ^" in caught.value.message
    assert kubectl.calls == []


@pytest.mark.parametrize(
    "text", ["a:\n\t- b\n", "a: 'open\n", "a: [\n", "\0\n", "%bad\n---\n", "a: *nobody\nb: &x\n c"]
)
def test_any_broken_yaml_is_one_error(kubectl: FakeKubectl, text: str) -> None:
    kubectl.answer("apply", stderr="error: error parsing STDIN: error converting YAML to JSON: yaml: fault", code=1)
    with pytest.raises(ClusterError) as caught:
        cluster.apply(text, show=False)
    assert caught.value.next_step


def test_a_byte_order_mark_is_no_fault(kubectl: FakeKubectl, tmp_path: Path) -> None:
    (tmp_path / "ns.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    kubectl.answer("apply", stdout="ok")
    assert cluster.apply(tmp_path / "ns.yaml", show=False) == "ok"


def test_what_the_server_refuses_keeps_its_words(kubectl: FakeKubectl) -> None:
    said = 'Error from server (BadRequest): error when creating "STDIN": unknown field "spec.hostz"'
    kubectl.answer("apply", stderr=said, code=1)
    with pytest.raises(ClusterError) as caught:
        cluster.apply(GOOD, show=False)
    assert said in caught.value.message
    assert "field named above" in caught.value.next_step
