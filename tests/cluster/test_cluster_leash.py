# SPDX-License-Identifier: Apache-2.0
"""Nothing that a notebook or a console's relay started goes on when that is killed."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from labkit import cluster
from labkit.cluster.leash import leash
from tests.scripts import first_lines

RUNS = """
import subprocess
from labkit.cluster.leash import leash
subprocess.run([*leash(), "sh", "-c", "echo $$; exec sleep 1000"])
"""
STARTS = """
import subprocess, sys
code = "import os, time; from labkit.cluster.leash import end_with_parent; end_with_parent()"
subprocess.run([sys.executable, "-c", code + "; print(os.getpid(), flush=True); time.sleep(1000)"])
"""
ASKED = """
import ctypes
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
print("ends with", signal.value)
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_on_the_leash_is_the_command_itself():
    assert leash()[1:] == ("--pdeathsig", "TERM")
    assert subprocess.run([*leash(), "sh", "-c", "exit 7"]).returncode == 7


@pytest.mark.parametrize("code", [RUNS, STARTS], ids=["leash", "end_with_parent"])
def test_what_was_started_ends_when_its_parent_is_killed(until, code: str):
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        try:
            pid = int(parent.stdout.readline())
            assert alive(pid)
        finally:
            parent.kill()
    until(lambda: not alive(pid), 10, "the end of what it started")


def test_helpers_hold_kubectl_on_the_leash(kubectl):
    kubectl.path.write_text(first_lines("-SE") + ASKED)
    assert cluster.kubectl("get pods", show=False) == "ends with 15\n"
