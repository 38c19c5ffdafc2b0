# SPDX-License-Identifier: Apache-2.0
"""One shell session, as a reader has one: what a command exports or where it goes holds for the next."""

from __future__ import annotations

import os
import pty
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """What a command left on the screen."""

    command: str
    stdout: str
    stderr: str
    code: int

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        """The rows of a table, without its heading."""
        return [line.split() for line in self.lines[1:]]

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.stdout}{self.stderr}(exit code {self.code})"


class Terminal:
    """bash, reading commands from a pipe of its own, so that standard input stays a terminal for what it runs."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._keyboard, terminal = pty.openpty()
        script, self._script = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", f"/dev/fd/{script}"],
            cwd=folder,
            env=env,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(script,),
            start_new_session=True,
        )
        os.close(script)
        os.close(terminal)
        self._runs = 0

    def run(self, command: str, *, typed: str = "", seconds: float = 60.0) -> Result:
        """Run `command` as it stands; `typed` is what the reader types while it runs."""
        self._runs += 1
        mark = f"--- end of command {self._runs} ---"
        os.write(self._script, f"{command}\nprintf '\\n{mark} %s\\n' $? | tee /dev/stderr\n".encode())
        if typed:
            os.write(self._keyboard, typed.encode())
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        seen = {self._process.stdout: b"", self._process.stderr: b""}
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for stream in seen:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(end - time.monotonic())
                assert ready, f"no end after {seconds} s: {command}\n{b''.join(seen.values()).decode()}"
                for key, _ in ready:
                    stream = key.fileobj
                    assert not isinstance(stream, int)
                    chunk = os.read(key.fd, 65536)
                    assert chunk, f"bash ended: {command}\n{b''.join(seen.values()).decode()}"
                    seen[stream] += chunk  # type: ignore[index]
                    if f"\n{mark} ".encode() in seen[stream] and seen[stream].endswith(b"\n"):  # type: ignore[index]
                        selector.unregister(stream)
        stdout, stderr = (text.decode().replace("\r\n", "\n") for text in seen.values())
        stdout, _, code = stdout.rpartition(f"\n{mark} ")
        return Result(command, stdout, stderr.rpartition(f"\n{mark} ")[0], int(code))

    def close(self) -> None:
        """End the session."""
        os.close(self._script)
        os.close(self._keyboard)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
