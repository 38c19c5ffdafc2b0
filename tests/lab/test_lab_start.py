# SPDX-License-Identifier: Apache-2.0
"""What the start page is told, and what JupyterLab is started with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from labkit.choice import choose
from labkit.course.progress import LESSONS, ONLY, Progress
from labkit.ground import sandboxes
from labkit.ground.errors import SettingError
from labkit.lab import command, copies, server, start
from labkit.user import NO_CLUSTER
from tests.cluster.api_like import kubeconfig

NAMES = list(LESSONS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KUBECONFIG", "LABKIT_KUBECONFIG", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    return tmp_path / "labkit"


def sandbox(home: Path, name: str, release: str) -> Progress:
    folder = home / "sandboxes" / name
    folder.mkdir(parents=True)
    (folder / "release").write_text(release)
    (folder / "course").mkdir()
    return Progress(folder / "course")


def test_nothing_was_played_yet() -> None:
    facts = start.facts()
    assert (facts["release"], facts["target"], facts["next"]) == ("1.30.3", "sandbox", NAMES[0])
    assert [one["name"] for one in facts["lessons"]] == NAMES
    assert all(one["minutes"] >= 5 and not one["done"] and not one["passed"] for one in facts["lessons"])


def test_ticks_are_those_of_what_the_course_runs_on(home: Path) -> None:
    sandbox(home, "default", "1.30.3").finish(NAMES[0])
    old = sandbox(home, "istio-1-2-2", "1.2.2")
    old.passed(NAMES[1], "a check")

    def done() -> list[str]:
        return [one["name"] for one in start.facts()["lessons"] if one["done"]]

    assert (done(), start.facts()["next"]) == ([NAMES[0]], NAMES[1])
    start.change("1.2.2", "")
    assert (done(), start.facts()["next"]) == ([], NAMES[1])
    assert start.facts()["lessons"][1]["passed"] == 1
    start.change("1.30.3", "")
    assert done() == [NAMES[0]]


def test_a_context_finds_the_ticks_of_its_cluster(home: Path) -> None:
    for uid, context, lesson in (("u1", "mine", NAMES[0]), ("u2", "other", NAMES[1])):
        place = home / "course" / uid
        place.mkdir(parents=True)
        (place / "context").write_text(context)
        Progress(place).finish(lesson)
    assert start.places("1.30.3", "mine") == home / "course" / "u1"
    assert start.places("1.30.3", "nobody") is None


@pytest.mark.parametrize(
    ("done", "passed", "expected"),
    [
        ({}, {}, NAMES[0]),
        ({NAMES[0]: "1"}, {NAMES[0]: {"a": "1"}}, NAMES[1]),
        ({NAMES[0]: "1"}, {NAMES[2]: {"a": "2"}}, NAMES[2]),
        # The first lesson again, after the third: it was played to its end.
        ({NAMES[0]: "4", NAMES[1]: "1", NAMES[2]: "2"}, {}, NAMES[3]),
        ({NAMES[-1]: "9"}, {}, ""),
    ],
)
def test_where_to_go_on(done: dict[str, str], passed: dict[str, dict[str, str]], expected: str) -> None:
    assert start.following(done, passed) == expected


def test_terminals_get_the_sandbox_or_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(tmp_path / ".kube" / "config")
    nothing = command.surroundings("")
    assert (nothing["KUBECONFIG"], nothing["LABKIT_KUBECONFIG"]) == (str(NO_CLUSTER), own)
    made = command.surroundings("/h/kubeconfig")
    assert made["KUBECONFIG"] == f"/h/kubeconfig:{NO_CLUSTER}"
    assert made["LABKIT_KUBECONFIG"] == f"/h/kubeconfig:{own}"
    assert made["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    monkeypatch.setenv("KUBECONFIG", "/h/kubeconfig:/mine")
    assert command.surroundings("/h/kubeconfig")["LABKIT_KUBECONFIG"] == "/h/kubeconfig:/mine"
    monkeypatch.setenv("JUPYTER_PATH", "/theirs")
    assert command.surroundings("")["JUPYTER_PATH"] == f"{command.JUPYTER['JUPYTER_PATH']}:/theirs"


def test_what_the_user_says_to_jupyter_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid in (0, 1000):
        monkeypatch.setattr("os.geteuid", lambda uid=uid: uid)
        words = command.command(Path("/w"), ["--port=1", "--ServerApp.root_dir=/x"])
        assert words[-2:] == ["--port=1", "--ServerApp.root_dir=/x"]
        assert ("--allow-root" in words) == (uid == 0)
        assert "--LabApp.default_url=/lab/tree/00-start.ipynb" in words


def test_the_lab_is_told_in_a_few_lines_and_becomes_jupyterlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became: list[Any] = []
    asked: list[tuple[str, ...]] = []

    def call(*words: str) -> str:
        asked.append(words)
        return "sandbox 'istio' is running\nnext: …\n"

    monkeypatch.setattr("os.execve", lambda *all: became.append(all))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(command.sandbox, "call", call)
    command.main(folder=tmp_path / "mine", fresh=False, release="1.2.2", target="", arguments=["--no-browser"])
    assert asked == [("up", "--release", "1.2.2")]
    ((program, words, environment),) = became
    assert (program, words[:3]) == (sys.executable, [sys.executable, "-m", "jupyterlab"])
    assert words[-1] == "--no-browser"
    assert environment["KUBECONFIG"] == f"{sandboxes.kubeconfig('default')}:{NO_CLUSTER}"
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("your copy of the notebooks: ")
    assert "Istio 1.2.2" in said[1]
    assert said[-2:] == [
        "sandbox 'istio' is running; `labkit down` ends it",
        "JupyterLab runs as root here: on loopback only, and behind its token.",
    ]
    assert start.facts()["release"] == "1.2.2", "it is chosen for every notebook"


def test_the_first_arrangement_is_saved_once(tmp_path: Path) -> None:
    folder = tmp_path / "workspaces"
    assert server.arrange(folder, "notebooks/00-start.ipynb")
    (file,) = folder.iterdir()
    kept = json.loads(file.read_text())
    assert kept["metadata"]["id"] == "default"
    dock = kept["data"]["layout-restorer:data"]["main"]["dock"]
    assert [area["widgets"] for area in dock["children"]] == [
        ["labkit-start:notebooks/00-start.ipynb"],
        ["terminal:workshop"],
    ]
    assert kept["data"]["file-browser-filebrowser:cwd"]["path"] == "notebooks"
    file.write_text(json.dumps({**kept, "data": {}}))
    assert not server.arrange(folder, "notebooks/00-start.ipynb")
    assert json.loads(file.read_text())["data"] == {}, "the learner's own stays"


def test_the_start_page_is_found_below_the_servers_root(tmp_path: Path) -> None:
    assert server.start_in(tmp_path) == ""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / start.START).touch()
    assert server.start_in(tmp_path) == "notebooks/00-start.ipynb"
    (tmp_path / start.START).touch()
    assert server.start_in(tmp_path) == "00-start.ipynb"


def test_a_changed_extension_is_loaded_under_another_name() -> None:
    folder = command.JUPYTER["JUPYTER_PATH"] / "labextensions" / "labkit"
    load = json.loads((folder / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    modules = b"".join(path.read_bytes() for path in sorted(folder.glob("*.js")))
    sum_of = hashlib.sha256(modules).hexdigest()[:12]
    assert load == f"start.js?v={sum_of}", "browsers keep what they have loaded: write the sum into package.json"


def test_the_choice_of_the_page_is_the_courses(home: Path) -> None:
    start.change("1.2.2", "")
    assert choose().release == "1.2.2"


@pytest.mark.long
def test_the_command_goes_on_as_jupyterlab(home: Path, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / ".kube" / "config", {"mine": {"server": "https://127.0.0.1:1"}})
    surroundings = {**os.environ, "KUBECONFIG": str(own)}
    words = [sys.executable, "-m", "labkit", "lab", "mine", "--target", "mine", "--", "--version"]
    done = subprocess.run(words, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == f"your copy of the notebooks: {tmp_path / 'mine'}"
    assert "'mine'" in said[1]
    assert said[-1] == metadata.version("jupyterlab")
    # A cluster of one's own needs no sandbox beside it.
    assert not (home / "sandboxes").exists()


def test_a_lesson_that_a_release_lacks_is_not_of_its_course(home: Path) -> None:
    start.change("1.2.2", "")
    facts = start.facts()
    assert [one["name"] for one in facts["lessons"]] == [name for name in NAMES if name not in ONLY]
    assert start.following({"13-identity": "1"}, {}, "1.30.3") == "14-who-may"
    assert start.following({"13-identity": "1"}, {}, "1.2.2") == "18-troubleshooting"


def test_a_copy_is_in_a_language_and_stays_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became: list[Any] = []
    monkeypatch.setattr("os.execve", lambda *all: became.append(all))
    monkeypatch.setattr(command, "_sandbox", lambda what: "")
    monkeypatch.chdir(tmp_path)

    def spoken(folder: str = "", asked: str = "", *, fresh: bool = False) -> str:
        where = Path(folder) if folder else None
        command.main(folder=where, fresh=fresh, release="", target="", arguments=[], language=asked)
        return str(became.pop()[2]["LABKIT_LANG"])

    assert spoken(asked="zh") == "zh"
    own = tmp_path / "workshop-zh"
    assert "# 按请求路由" in (own / "08-routing.ipynb").read_text()
    assert copies.language(own) == "zh"
    assert spoken("workshop-zh") == "zh", "it goes on in its own"
    assert spoken() == "en"
    assert copies.language(tmp_path / "workshop") == "en"
    with pytest.raises(SettingError, match="is a copy in 中文, and stays one"):
        spoken("workshop-zh", "en")
    assert spoken("workshop-zh", "en", fresh=True) == "en"
    assert copies.language(own) == "en"
    assert copies.language(tmp_path / "nowhere") == ""
    with pytest.raises(SettingError, match="the course is not in the language 'tlh'"):
        spoken("new", "tlh")


def test_the_page_is_told_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start.words() == {"words": {}}
    monkeypatch.setenv("LABKIT_LANG", "zh")
    assert start.words()["words"]["Begin"] == "开始"
    assert start.facts()["lessons"][0]["title"] == "一个空的 Kubernetes"
