# SPDX-License-Identifier: Apache-2.0
"""Seats for a class: each is one's own, behind its token, and all end with the command that started them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.classroom import seats
from labkit.cli import main
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.timeout(600)


def of_the_class(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("HOME", ""), process.environ().get("LABKIT_SANDBOX", "")]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def a_class(folder: Path, count: int, until: Callable[..., Any]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command, and the addresses of its seats once all are there."""
    command = [sys.executable, "-m", "labkit", "course", "seats", str(count), "--folder", str(folder), "--anyway"]
    environment = {**os.environ, "KUBECONFIG": "/nowhere", "LABKIT_PROGRESS": "off"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            handout = folder / "seats.csv"
            until(lambda: handout.exists() or run.poll() is not None, 400, "the seats to be there")
            assert run.poll() is None, run.stdout and run.stdout.read()
            with open(handout, newline="") as file:
                yield run, [row["address"] for row in csv.DictReader(file)]
        finally:
            run.kill()
            for process in of_the_class(folder):
                # What belongs together ends together.
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_seat_is_ones_own_and_all_end_together(tmp_path: Path, until: Callable[..., Any]) -> None:
    with a_class(tmp_path / "class", 2, until) as (run, addresses):
        first, second = (address.partition("/lab?token=") for address in addresses)
        assert first[0] != second[0]
        for place, _, token in (first, second):
            assert place.startswith("http://127.0.0.1:")
            assert status(f"{place}/api/contents?token={token}") == 200
            assert status(f"{place}/api/contents") == 403
        assert status(f"{first[0]}/api/contents?token={second[2]}") == 403
        words = " ".join(word for process in of_the_class(tmp_path) for word in process.cmdline())
        assert first[2] not in words, "a command line is for all users of the machine to read"
        for name in ("seats.csv", "seat-01/token"):
            assert (tmp_path / "class" / name).stat().st_mode & 0o777 == 0o600
        for seat in ("seat-01", "seat-02"):
            assert (tmp_path / "class" / seat / "workshop" / "00-start.ipynb").exists()
            assert (tmp_path / "class" / seat / ".labkit" / "sandboxes" / "default").is_dir()
            assert seats.memory(tmp_path / "class" / seat) > 50 << 20
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=200)
        assert run.returncode == 0, said
        assert addresses[0] in said
        assert "who has one can read the others'" in said
        assert of_the_class(tmp_path) == []
    # The same links, where the ports are the same.
    assert (tmp_path / "class" / "seat-01" / "token").read_text() == first[2]


def test_a_class_that_is_killed_leaves_nothing(tmp_path: Path, until: Callable[..., Any]) -> None:
    with a_class(tmp_path / "class", 1, until) as (run, _):
        run.kill()
        run.wait()
        until(lambda: of_the_class(tmp_path) == [], 120, "everything of the class to end")


def test_more_than_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(seats, "A_SEAT", psutil.virtual_memory().total)
    assert main(["course", "seats", "3", "--folder", str(tmp_path / "class")]) == 1
    said = capsys.readouterr().err
    assert "0 of them fit here now" in said
    assert "--anyway" in said
    assert not (tmp_path / "class").exists()


@pytest.mark.parametrize("count", ["0", "100", "-1"])
def test_odd_numbers_of_seats(tmp_path: Path, count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "seats", "--folder", str(tmp_path / "class"), "--", count]) == 1
    assert f"{count} seats cannot be had" in capsys.readouterr().err


def test_a_seat_that_cannot_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "class:1"
    assert main(["course", "seats", "1", "--folder", str(folder), "--anyway"]) == 1
    assert "seat-01 cannot start" in capsys.readouterr().err
    assert of_the_class(folder) == []
