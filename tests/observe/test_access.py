# SPDX-License-Identifier: Apache-2.0
"""Who may call whom, as a shell in a pod finds out: this machine's shell, and a curl that answers in turn."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from labkit import cluster
from labkit.ground.errors import ClusterError
from labkit.observe.access import Call, Caller, ask

CALLS = [Call("ratings", "http://ratings.bookinfo:9080/ratings/0"), Call("details", "http://details.bookinfo:9080/")]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose lines the calls get, one after the other: curl's exit code and the status."""
    program, lines = tmp_path / "curl", tmp_path / "lines"
    program.write_text(f'#!/bin/sh\nread code status < {lines}\nsed -i 1d {lines}\nprintf %s "$status"\nexit $code\n')
    program.chmod(0o755)

    def run(_where: str, words: Sequence[str], **_: object) -> str:
        done = subprocess.run(
            words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
        )
        return done.stdout

    monkeypatch.setattr(cluster, "exec", run)
    return lines


def test_a_row_a_caller_and_a_column_a_call(answers: Path) -> None:
    answers.write_text("0 200\n56 000\n")
    found = ask([Caller("partner", "curl")], CALLS)
    assert found.loc["partner/curl"].to_dict() == {"ratings": "200", "details": "reset"}


def test_of_several_rounds_the_last_counts(answers: Path) -> None:
    answers.write_text("0 403\n0 200\n0 200\n0 403\n0 200\n0 200\n0 500\n")
    found = ask([Caller("partner", "curl")], CALLS, rounds=3)
    assert found.loc["partner/curl"].to_dict() == {"ratings": "200", "details": "200"}
    assert answers.read_text() == "0 500\n", "three rounds, and no more"


def test_who_has_no_curl_makes_no_calls(answers: Path) -> None:
    # As a shell says of a program that it does not find.
    answers.with_name("curl").write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(ClusterError, match="did not make its 2 calls"):
        ask([Caller("partner", "curl")], CALLS, rounds=2)
