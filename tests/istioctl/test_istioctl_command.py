# SPDX-License-Identifier: Apache-2.0
"""The command `istioctl`: who answers to it, what is refused, and what files are told."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from labkit.istioctl.__main__ import genuine
from labkit.istioctl.commands import main

ROOT = Path(__file__).resolve().parents[2]


def a_program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "istioctl"
    file.write_text(text)
    file.chmod(0o755)
    return file


def ran(*words: str, path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PATH": f"{path}:/usr/bin:/bin", **more}
    command = [sys.executable, "-m", "labkit.istioctl", *words]
    return subprocess.run(command, env=surroundings, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_it_is_installed_as_istioctl() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["istioctl"] == "labkit.istioctl.__main__:main"


def test_a_genuine_one_on_the_path_wins(tmp_path: Path) -> None:
    ours = a_program(tmp_path / "ours", "#!/bin/sh\n# from labkit.istioctl.__main__ import main\n")
    assert genuine(str(ours.parent)) == ""
    theirs = a_program(tmp_path / "theirs", '#!/bin/sh\necho "genuine $*"\nexit 7\n')
    assert genuine(f"{ours.parent}:{tmp_path / 'none'}::{theirs.parent}") == str(theirs)
    done = ran("proxy-status", "-n", "a b", path=theirs.parent)
    assert (done.stdout, done.returncode) == ("genuine proxy-status -n a b\n", 7)
    theirs.chmod(0o644)
    assert genuine(str(theirs.parent)) == ""


def test_one_that_leads_back_to_us_does_not_go_round(tmp_path: Path) -> None:
    words = f'#!/bin/sh\nmodule=istioctl\nexec {sys.executable} -m "labkit.$module" "$@"\n'
    wrapper = a_program(tmp_path / "bin", words)
    assert genuine(str(wrapper.parent)) == str(wrapper)
    done = ran("version", "--remote=false", path=wrapper.parent)
    assert done.returncode == 0, done.stderr
    assert "the workshop's own" in done.stdout


def test_it_says_that_it_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--remote=false"]) == 0
    assert "This istioctl is the workshop's own" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "the workshop's own" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["install", "--set", "profile=demo"], "Lesson 01 installs Istio"),
        (["tag", "set", "prod", "--revision", "default"], "a copy of the injector's MutatingWebhookConfiguration"),
        (["x", "precheck"], "istioctl analyze"),
        (["waypoint", "apply"], "no ambient mesh"),
        (["bug-report"], "labkit report"),
        (["admin", "log", "--level", "ads:debug"], "kubectl logs -n istio-system deploy/istiod"),
        (["proxy-config", "ecds"], "There are all, bootstrap"),
        (["proxy-status", "reviews"], "istioctl proxy-config all reviews"),
        (["proxy-config", "cluster"], "requires pod name or --file parameter"),
        (["proxy-config", "log"], "log requires pod name or --selector"),
        (["pc", "cluster", "x", "-o", "xml"], 'output format "xml" not supported'),
        (["analyze", "--use-kube=false"], "needs files"),
        (["pc", "cluster", "-f", "/nowhere.json"], "No such file"),
        (["experimental", "precheck"], "istioctl analyze"),
        (["exp", "metrics", "reviews-v1"], "istio_requests_total"),
        (["x", "wait", "--for=distribution", "virtualservice", "reviews"], "istioctl proxy-status -v 1"),
        (["-n", "istio-system", "dash", "controlz"], "kubectl logs -n istio-system deploy/istiod"),
        (["ps", "-o", "json"], "`-v 1` shows each type"),
        (["proxy-status", "--output=json"], "`-v 1` shows each type"),
        (["pc", "eds", "x"], "There are all, bootstrap"),
        (["profile", "list"], "the demo profile"),
        (["pc", "endpoint"], "endpoints requires pod name or --file parameter"),
        (["pc", "log", "x", "--level", "none"], "unrecognized logging level: none"),
        (["pc", "log", "x", "--level", "http:debug:more"], "unrecognized logging level: debug:more"),
        (["pc", "log", "x", "-r", "--level", "info"], "--level cannot be combined with --reset"),
        (["pc", "log", "x", "-o", "json"], "--output is not applicable for this command"),
        (["x", "authz", "check"], "expecting pod name or config dump, found: 0"),
        (["x", "envoy-stats", "x", "-o", "xml"], "unable to match a printer suitable for the output format xml"),
    ],
)
def test_what_is_refused_in_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("Error: ")
    assert said in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("words", [[], ["nothing"], ["analyze", "--nonsense"], ["ps", "-v", "7"]])
def test_a_wrong_command_line_is_64(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 64
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["foo"], 'unknown command "foo" for "istioctl"'),
        (["x", "foo"], 'unknown command "foo" for "istioctl experimental"'),
        (["pc", "clutser", "x"], 'unknown command "clutser" for "istioctl proxy-config"'),
        (["pc", "cluster", "x", "--fqnd", "y"], "unknown flag: --fqnd"),
        (["ps", "-z"], "unknown shorthand flag: 'z' in -z"),
        (["pc", "cluster", "x", "--port", "http"], 'invalid argument "http" for "--port" flag'),
        (["ps", "-v", "7"], 'invalid argument "7" for "-v/--verbosity" flag'),
        (["pc", "cluster", "x", "--fqdn"], "flag needs an argument: --fqdn"),
        (["pc", "cluster", "x", "y"], "nothing is expected after the command's words: y"),
        (["x"], "COMMAND is missing"),
    ],
)
def test_a_wrong_command_line_is_told_in_istioctls_words(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert capsys.readouterr().err.splitlines()[0] == f"Error: {said}"


def test_without_a_cluster_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from labkit import cluster

    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(ROOT / "labkit/cluster/no-cluster.yaml"))
    try:
        assert main(["proxy-status"]) == 1
    finally:
        cluster.leave()
    told = capsys.readouterr().err
    assert "no cluster was chosen here" in told
    assert "$KUBECONFIG" in told


DOOR = """\
# a Gateway that nobody answers to
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: door
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
"""
GOOD = """\
apiVersion: v1
kind: Namespace
metadata: {name: mine, labels: {istio-injection: enabled}}
"""


def test_files_are_analyzed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "door.yaml"
    file.write_text(DOOR)
    assert main(["analyze", "--use-kube=false", str(file)]) == 79
    told = capsys.readouterr()
    place = f"(Gateway default/door {file}:5)"
    assert told.out == f'Error [IST0101] {place} Referenced selector not found: "istio=ingressgateway"\n'
    assert told.err == (
        "Error: Analyzers found issues when analyzing namespace: default.\n"
        "See https://istio.io/v1.30/docs/reference/config/analysis for more information about causes and resolutions.\n"
    )
    assert main(["analyze", "-k=false", "-f", str(file), "-o", "json", "-n", "edge"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {
        "code": "IST0101",
        "documentationUrl": "https://istio.io/v1.30/docs/reference/config/analysis/ist0101/?ref=istioctl-analyze",
        "level": "Error",
        "message": 'Referenced selector not found: "istio=ingressgateway"',
        "origin": "Gateway edge/door",
        "reference": f"{file}:5",
    }


def test_what_is_well_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert main(["analyze", "--use-kube=false", "-A", str(file)]) == 0
    told = capsys.readouterr()
    assert told.out == "\n"
    assert told.err == f"✔ No validation issues found when analyzing {file}.\n"
    (tmp_path / "notes.txt").write_text("no manifest")
    (tmp_path / "more.yml").write_text(GOOD.replace("mine", "yours"))
    assert main(["analyze", "--use-kube=false", "-A", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert f"Skipping file {tmp_path / 'notes.txt'}, recognized file extensions are: [.json .yaml .yml]" in told.err
    assert told.err.endswith(f"analyzing:\n  - {file}\n  - {tmp_path / 'more.yml'}\n")


def test_a_list_of_objects_is_where_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list.yaml"
    item = DOOR.replace("\n", "\n  ").rstrip()
    file.write_text(f"kind: List\napiVersion: v1\nitems:\n- {item}\n")
    assert main(["analyze", "--use-kube=false", "-n", "edge", str(file)]) == 79
    assert f"(Gateway edge/door {file}:1) Referenced selector not found" in capsys.readouterr().out


def test_thresholds_and_what_is_suppressed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "door.yaml"
    file.write_text(DOOR)
    words = ["analyze", "--use-kube=false", str(file)]
    for pattern in ("IST0101=Gateway door.default", "IST0101=Gateway *"):
        assert main([*words, "-S", pattern]) == 0
        assert "No validation issues" in capsys.readouterr().err
    assert main([*words, "-S", "IST0101=Gateway door.edge"]) == 79
    file.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: mine}\n")
    assert main([*words, "-n", "mine"]) == 0
    assert "Info [IST0102] (Namespace mine " in capsys.readouterr().out
    assert main([*words, "-n", "mine", "--failure-threshold", "info"]) == 79
    assert main([*words, "-n", "mine", "--output-threshold", "Error"]) == 0
    assert main([*words, "-n", "other"]) == 0


def test_what_cannot_be_read_is_65(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text("a: [")
    assert main(["analyze", "--use-kube=false", str(file)]) == 65
    told = capsys.readouterr().err
    assert "(but 1 file could not be parsed)" in told
    assert told.endswith("Error: Some files couldn't be parsed.\n")
    assert main(["analyze", "--use-kube=false", "--ignore-unknown", str(file)]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("just a text\n---\n- 1\n---\nkind: List\nitems: [3]\n"))
    assert main(["analyze", "--use-kube=false", "-"]) == 79
    assert "IST0106" in capsys.readouterr().out


def test_where_may_be_said_before_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "door.yaml"
    file.write_text(DOOR)
    for where in (["-n", "edge"], ["--namespace=edge"], ["-i", "istio-system", "-n", "edge"]):
        assert main([*where, "analyze", "--use-kube=false", str(file)]) == 79
        assert "(Gateway edge/door" in capsys.readouterr().out


def test_the_messages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "-L"]) == 0
    assert "* IST0101 ReferencedResourceNotFound (Error)" in capsys.readouterr().out.splitlines()
