# SPDX-License-Identifier: Apache-2.0
"""A node for tests: commands are local processes, logs are given, ports are this machine's."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator

from meshbox.contracts import ApiError, ByteStream, ExecSession


class Process:
    """A local command; with a tty, on a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self.process = process
        self.terminal = terminal

    async def read_stdout(self) -> bytes:
        if self.terminal is None:
            assert self.process.stdout is not None
            return await self.process.stdout.read(65536)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, os.read, self.terminal, 65536)
        except OSError:
            return b""

    async def read_stderr(self) -> bytes:
        return b"" if self.process.stderr is None else await self.process.stderr.read(65536)

    async def write_stdin(self, data: bytes) -> None:
        if self.terminal is not None:
            os.write(self.terminal, data)
        elif self.process.stdin is not None:
            self.process.stdin.write(data)
            await self.process.stdin.drain()

    async def close_stdin(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def resize(self, width: int, height: int) -> None:
        if self.terminal is not None:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Leave no process and no open file behind."""
        self.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        for pipe in (self.process.stdout, self.process.stderr):
            while pipe is not None and await pipe.read(65536):
                pass
        if self.terminal is not None:
            os.close(self.terminal)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self, n: int = 65536) -> bytes:
        return await self.reader.read(n)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def write_eof(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()


class LocalRuntime:
    """Implements `contracts.PodRuntime`; what it was asked is kept for tests to look at."""

    def __init__(self) -> None:
        self.log_lines: list[bytes] = []
        self.more = asyncio.Event()
        self.log_requests: list[dict[str, object]] = []
        self.attached: list[tuple[str, int | None]] = []
        self.followers = 0
        self.follows = True
        self.processes: list[Process] = []
        self.connections: list[Connection] = []

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: str = "",
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        self.log_requests.append(
            {
                "container": container,
                "follow": follow,
                "tail_lines": tail_lines,
                "since_seconds": since_seconds,
                "since_time": since_time,
                "timestamps": timestamps,
                "limit_bytes": limit_bytes,
            }
        )
        if previous:
            raise ApiError(400, "BadRequest", f'previous terminated container "{container}" in pod "{pod}" not found')
        lines = self.log_lines
        shown = 0 if tail_lines is None else max(len(lines) - tail_lines, 0)
        self.followers += 1
        try:
            while True:
                # One by one: more may be said while one of them is on its way.
                while shown < len(lines):
                    shown += 1
                    yield lines[shown - 1]
                if not (follow and self.follows):
                    return
                self.more.clear()
                await self.more.wait()
        finally:
            self.followers -= 1

    def say(self, line: bytes) -> None:
        self.log_lines.append(line)
        self.more.set()

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        terminal = inner = None
        pipe = asyncio.subprocess.PIPE
        if tty:
            terminal, inner = os.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=inner if tty else pipe if stdin else asyncio.subprocess.DEVNULL,
                stdout=inner if tty else pipe,
                stderr=inner if tty else pipe,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "CONTAINER": container},
            )
        except FileNotFoundError:
            raise ApiError(
                500,
                "InternalError",
                f'error executing command in container: exec: "{command[0]}": executable file not found in $PATH',
            ) from None
        finally:
            if inner is not None:
                os.close(inner)
        session = Process(process, terminal)
        self.processes.append(session)
        return session

    async def attach(self, namespace: str, pod: str, container: str, *, skip: int | None) -> ExecSession:
        self.attached.append((container, skip))
        return await self.exec(namespace, pod, container, ["cat"], stdin=True, tty=False)

    async def connect(self, namespace: str, pod: str, port: int) -> ByteStream:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        self.connections.append(connection)
        return connection
