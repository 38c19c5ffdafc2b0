# SPDX-License-Identifier: Apache-2.0
"""What the course runs on: chosen once, kept in one small file, followed by notebooks and by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labkit import choice, cli, cluster, course, sandbox
from labkit.choice import choose, chosen
from labkit.course import lesson, targets
from labkit.ground import config, sandboxes
from labkit.ground.errors import ClusterError, SettingError
from tests.cluster.fake_kubectl import FakeKubectl
from tests.conftest import REPOSITORY


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("LABKIT_KUBECONFIG", raising=False)
    return tmp_path / "labkit"


def made_with(home: Path, name: str, release: str) -> None:
    folder = home / "sandboxes" / name
    folder.mkdir(parents=True)
    (folder / "release").write_text(f"{release}\n")


def what(found: course.Choice) -> tuple[str, str]:
    return found.release, found.target


def test_without_a_choice_it_is_todays_release_in_the_sandbox(home: Path) -> None:
    assert what(chosen()) == ("1.30.3", "sandbox")
    assert not home.exists(), "looking leaves nothing behind"


def test_a_choice_is_kept_and_each_word_by_itself(home: Path) -> None:
    assert what(choose(release="1.2.2")) == ("1.2.2", "sandbox")
    assert what(chosen()) == ("1.2.2", "sandbox")
    assert choice.file().stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    choice.file().write_text('{"target": "mine", "release": "1.2.2"}')
    assert what(choose(release="1.30.3")) == ("1.30.3", "mine")
    assert what(choose(target="sandbox")) == ("1.30.3", "sandbox")
    assert what(choose()) == ("1.30.3", "sandbox")


def test_what_a_notebook_says_itself_wins_and_is_not_kept(home: Path) -> None:
    choose(release="1.2.2")
    assert what(chosen("1.30.3", "mine")) == ("1.30.3", "mine")
    assert what(chosen(target="mine")) == ("1.2.2", "mine")
    assert what(chosen()) == ("1.2.2", "sandbox")


@pytest.mark.parametrize("typo", ["1.22", "1.30", "v1.2.2", "latest"])
def test_a_typo_is_refused_and_both_releases_are_named(home: Path, typo: str) -> None:
    for refused in (lambda: choose(release=typo), lambda: chosen(typo), lambda: course.begin("00-kubernetes", typo)):
        with pytest.raises(SettingError, match=f"does not teach Istio '{typo}'") as caught:
            refused()
        assert caught.value.next_step == "Choose 1.2.2 or 1.30.3 (the default is 1.30.3)."
    assert not home.exists()


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"", ("1.30.3", "sandbox")),
        (b"{", ("1.30.3", "sandbox")),
        (b"[1]", ("1.30.3", "sandbox")),
        (b"\xff\xfe", ("1.30.3", "sandbox")),
        (b"[" * 4000, ("1.30.3", "sandbox")),
        (b" " * 5000, ("1.30.3", "sandbox")),
        (b'{"release": "1.9.9", "target": "mine"}', ("1.30.3", "mine")),
        (b'{"release": "1.2.2", "target": 5}', ("1.2.2", "sandbox")),
    ],
)
def test_of_a_damaged_file_what_is_sound_counts_and_the_rest_is_told(
    home: Path, content: bytes, left: tuple[str, str]
) -> None:
    home.mkdir()
    choice.file().write_bytes(content)
    found = chosen()
    assert what(found) == left
    assert str(choice.file()) in found.note
    assert found.note in str(found)
    assert what(choose(release="1.2.2")) == ("1.2.2", left[1])
    assert "damaged" not in chosen().note


def test_a_pipe_or_a_folder_in_its_place_keeps_nobody_waiting(home: Path) -> None:
    home.mkdir()
    os.mkfifo(choice.file())
    assert what(chosen()) == ("1.30.3", "sandbox")
    choice.file().unlink()
    choice.file().mkdir()
    assert what(chosen()) == ("1.30.3", "sandbox")
    with pytest.raises(SettingError, match="the choice cannot be kept in"):
        choose(release="1.2.2")


def test_where_it_cannot_be_kept_that_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "labkit"))
    with pytest.raises(SettingError, match=r"the choice cannot be kept in .*: Not a directory"):
        choose(release="1.2.2")


def test_two_who_choose_at_once_lose_neither_word(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who changes the target has read the file when the other wants to change the release."""
    read, second = choice._read, threading.Thread(target=choose, args=("1.2.2",))
    times = []

    def slowly() -> tuple[dict[str, str], str]:
        found = read()
        if not times:
            times.append(1)
            second.start()
            second.join(0.2)
        return found

    monkeypatch.setattr(choice, "_read", slowly)
    choose(target="sandbox")
    second.join()
    assert json.loads(choice.file().read_text()) == {"target": "sandbox", "release": "1.2.2"}


def test_a_sandbox_that_is_there_decides_as_long_as_nobody_has(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_with(home, "default", "1.2.2")
    assert chosen().release == "1.2.2"
    made_with(home, "class-2", "1.30.3")
    monkeypatch.setenv("KUBECONFIG", f"{home}/sandboxes/class-2/kubeconfig:/other")
    assert chosen().release == "1.30.3"
    choose(release="1.2.2")
    assert chosen().release == "1.2.2"


def test_a_sandbox_whose_release_is_damaged_is_known_by_its_state(home: Path) -> None:
    made_with(home, "default", "?")
    assert sandboxes.release("default") == ""
    (home / "sandboxes" / "default" / "state.json").write_text('{"release": "1.2.2"}')
    assert sandboxes.release("default") == "1.2.2"
    assert sandboxes.named("1.30.3") == "istio-1-30-3"


def test_a_target_that_is_no_context_is_refused(home: Path, kubectl: FakeKubectl) -> None:
    kubectl.answer("view", "kind-a", stdout="{}")
    kubectl.answer("view", code=1, stderr="error: no such context")
    kubectl.answer("get-contexts", stdout="kind-a\n")
    with pytest.raises(SettingError, match="TARGET = 'nope' is no context of") as caught:
        choose(target="nope")
    assert "kind-a" in caught.value.next_step
    assert not choice.file().exists()


@pytest.mark.parametrize("error", [SettingError, ClusterError])
def test_a_kept_target_that_is_gone_is_told_with_the_way_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, as_before: None, error: type[SettingError] | type[ClusterError]
) -> None:
    def gone(target: str, release: str) -> cluster.Chosen:
        raise error(f"{target} is gone", next_step="Look for it.")

    home.mkdir()
    choice.file().write_text('{"target": "mine"}')
    monkeypatch.setattr(targets, "choose", gone)
    told = "the context 'mine' was chosen for the course, and cannot be had: mine is gone"
    with pytest.raises(error, match=told) as caught:
        course.begin("00-kubernetes", "", "")
    assert caught.value.next_step == (
        'Look for it. `course.choose(target="sandbox")` leads all notebooks to the sandbox.'
    )
    with pytest.raises(error, match=r"^mine is gone"):
        course.begin("00-kubernetes", "", "mine")


def test_a_lesson_begins_on_what_was_chosen(
    home: Path, monkeypatch: pytest.MonkeyPatch, as_before: None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def go(target: str, release: str) -> cluster.Chosen:
        asked.append((target, release))
        raise ClusterError("far enough")

    monkeypatch.setattr(lesson.targets, "choose", go)
    for release, target in (("", ""), ("1.30.3", ""), ("1.2.2", "mine")):
        with pytest.raises(ClusterError, match="far enough"):
            course.begin("00-kubernetes", release, target)
        choose(release="1.2.2")
    assert asked == [("sandbox", "1.30.3"), ("sandbox", "1.30.3"), ("mine", "1.2.2")]
    choice.file().write_text("{")
    capsys.readouterr()
    with pytest.raises(ClusterError):
        course.begin("00-kubernetes")
    assert "What was chosen is damaged" in capsys.readouterr().out


@pytest.fixture
def handed(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command line hands to the sandbox's."""
    words: list[str] = []

    def become(*given: str) -> None:
        words[:] = given
        raise SystemExit(0)

    monkeypatch.setattr(sandbox, "become", become)
    return words


def labkit(*words: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(words)


def test_labkit_up_keeps_the_release_and_each_has_its_sandbox(
    home: Path, handed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    labkit("up")
    assert handed == ["up", "--name", "default", "--release", "1.30.3"]
    assert not choice.file().exists(), "nobody chose"
    made_with(home, "default", "1.30.3")
    labkit("up", "--release", "1.2.2")
    assert handed == ["up", "--release", "1.2.2", "--name", "istio-1-2-2"]
    said = f"The course runs on Istio 1.2.2, on the sandbox. (kept in {choice.file()})\n"
    assert capsys.readouterr().out.endswith(said)
    assert chosen().release == "1.2.2"
    made_with(home, "istio-1-2-2", "1.2.2")
    for command in ("up", "status", "env", "down", "report"):
        labkit(command)
        assert handed == [command, "--name", "istio-1-2-2"]
    labkit("up", "--release=1.30.3")
    assert handed == ["up", "--release=1.30.3", "--name", "default"]
    assert chosen().release == "1.30.3"


def test_labkit_up_that_is_about_something_else_keeps_nothing(home: Path, handed: list[str]) -> None:
    labkit("up", "--release", "1.2.2", "--name", "run-1", "--with-pid", "1")
    assert handed == ["up", "--release", "1.2.2", "--name", "run-1", "--with-pid", "1"]
    assert not choice.file().exists()
    for words in (["status", "--all"], ["down", "--all", "--delete"], ["up", "--help"], ["setup"], ["env", "-h"]):
        labkit(*words)
        assert handed == words
    for name in ("mine", ""):
        labkit("down", "--name", name)
        assert handed == ["down", "--name", name]


@pytest.mark.parametrize("words", [("up", "--release", "1.22"), ("run", "--release", "1.22"),
                                   ("doctor", "--target", "mine", "--release", "1.22")])  # fmt: skip
def test_the_command_line_refuses_a_typo(
    home: Path, handed: list[str], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert cli.main(words) == 1
    told = "labkit: this course does not teach Istio '1.22'\n→ Choose 1.2.2 or 1.30.3 (the default is 1.30.3).\n"
    assert capsys.readouterr().err == told
    assert handed == []
    assert not choice.file().exists()


def test_make_refuses_a_typo_before_it_installs_anything(tmp_path: Path) -> None:
    def make(*words: str) -> subprocess.CompletedProcess[str]:
        # Below a make that runs the tests it would speak of its folder.
        alone = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
        return subprocess.run(
            ["make", "-n", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, env=alone
        )

    for target in ("workshop", "lab"):
        refused = make(target, "RELEASE=1.22")
        assert refused.returncode == 2
        assert f'does not teach Istio "1.22": choose {" or ".join(config.RELEASES)}.  Stop.' in refused.stderr
        assert refused.stdout == ""
        for release in config.RELEASES:
            assert f"--release {release}" in make(target, f"RELEASE={release}").stdout
        assert "--release" not in make(target).stdout
    assert make("clean", "RELEASE=1.22").returncode == 0


def test_a_command_is_handed_over_where_the_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, env: became.append(words))
    monkeypatch.setattr(sys, "stdout", None)
    sandbox.become("status", "--name", "x")
    assert became[0][1:] == ["-m", "meshbox", "status", "--name", "x"]
