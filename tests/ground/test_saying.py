# SPDX-License-Identifier: Apache-2.0
"""What long steps say: a line that is written anew in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

SAID = """
import sys, threading
from labkit.ground import saying as module

drawn, enough, line = [], threading.Event(), module._line
def seen(*given):
    drawn.append(given)
    # At the second one the first has been written.
    if len(drawn) == 2:
        enough.set()
    return line(*given)
module._line, module.PAUSE, module._REDRAW = seen, {pause}, {pause}
with module.saying("fetching", after={pause}) as note:
    note("3 of 4 parts", 0.75)
    if {pause} < 1:
        assert enough.wait(240)
print("done", file=sys.stderr)
"""


def _env(**more: str) -> dict[str, str]:
    return {**os.environ, "LABKIT_PROGRESS": "on", **more}


def piped(pause: float) -> str:
    code = SAID.format(pause=pause)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stderr=subprocess.PIPE, env=_env(), check=True, timeout=300).stderr.decode()


def in_terminal(pause: float, term: str = "xterm") -> str:
    ours, theirs = pty.openpty()
    code = SAID.format(pause=pause)
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=_env(TERM=term)) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                some = os.read(ours, 65536)
            except OSError:
                break
            said += some
        assert process.wait(300) == 0
    os.close(ours)
    return said.decode()


def test_a_pipe_gets_lines_without_control_characters() -> None:
    lines = piped(0.01).splitlines()
    assert lines[-1] == "done"
    assert lines[0].startswith("fetching  3 of 4 parts  0:")
    assert not set("".join(lines)) & {"\r", "\x1b", "\b"}


def test_a_terminal_gets_one_line_that_is_gone_at_the_end() -> None:
    said = in_terminal(0.01)
    assert "\r\x1b[Kfetching  [##################......]  3 of 4 parts  0:0" in said
    assert said.endswith("\r\x1b[Kdone\r\n")
    assert said.count("\n") == 1


def test_a_terminal_that_can_write_nothing_anew_gets_lines() -> None:
    said = in_terminal(0.01, term="dumb")
    assert "\x1b" not in said
    assert said.startswith("fetching  3 of 4 parts  0:0")


def test_what_is_quick_says_nothing() -> None:
    assert piped(50.0) == "done\n"
    assert in_terminal(50.0) == "done\r\n"
