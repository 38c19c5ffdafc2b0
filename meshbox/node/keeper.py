# SPDX-License-Identifier: Apache-2.0
"""The parent of every process of every pod: a small single-threaded process that forks, execs, reaps and cleans up.

Run as a script with ``python -I -S keeper.py SOCKET ROOT [MODULE …]``, never imported by the daemon's side. It

- loads the image modules once, so that a Python-run container is a fork of it: milliseconds, and memory is shared;
- adopts what a container's processes leave behind (PR_SET_CHILD_SUBREAPER), so that nothing outlives its container;
- ends everything below it when the daemon's end of the socket closes, however the daemon ended; should the keeper
  itself be killed, the kernel kills the containers' main processes (PR_SET_PDEATHSIG), the daemon sweeps up the rest.

Messages on the socket (SOCK_SEQPACKET) are JSON. To the keeper: ``{"do": "spawn", "id": N}`` with descriptors (a memory
file with the request, stdin, stdout, stderr); ``{"do": "signal", "id": N, "signal": S, "tree": bool}``. From it:
``{"started": N, "pid": P}``, ``{"failed": N, "errno": E}``, ``{"exited": N, "code": C, "signal": S}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import termios
import traceback
import types
from collections.abc import Iterator
from typing import Any, NoReturn

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Process:
    """A process the daemon asked for."""

    def __init__(self, number: int, pid: int, container: str, main: bool) -> None:
        self.number = number
        self.pid = pid
        self.container = container
        self.main = main


class Keeper:
    """The loop: requests in, forks; children's ends out."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._by_pid: dict[int, Process] = {}
        self._by_number: dict[int, Process] = {}
        self._pid = os.getpid()
        # What is still to be told of containers whose main process has ended.
        self._ends: dict[str, dict[str, Any]] = {}
        # Adopted process → its container, if that is known: one that is about to end no longer shows its mark.
        self._adopted: dict[int, str | None] = {}

    def run(self) -> None:
        """Serve until the daemon's end of the socket closes or SIGTERM, then end everything."""
        wake_in, wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        ending: list[int] = []
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake_in, select.POLLIN)
        try:
            while not ending:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if wake_in in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_in, 4096)
                    self._reap()
                if self._control.fileno() in ready and not self._request():
                    break
        finally:
            self._end_all()

    def _tell(self, **message: Any) -> None:
        # A daemon that is gone is noticed by the loop.
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(message).encode())

    def _request(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 4)
        except OSError:
            # The daemon went away with messages of ours unread.
            return False
        if not data:
            return False
        message = json.loads(data)
        try:
            if message["do"] == "spawn":
                with open(os.dup(descriptors[0]), "rb") as file:
                    self._spawn(message["id"], json.load(file), descriptors[1:])
            elif process := self._by_number.get(message["id"]):
                self._signal(process, message["signal"], message["tree"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _spawn(self, number: int, request: dict[str, Any], streams: list[int]) -> None:
        result_in, result_out = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            # No more processes may be made just now: that one does not start, the others go on.
            os.close(result_in)
            os.close(result_out)
            self._tell(failed=number, errno=error.errno)
            return
        if pid == 0:
            child(request, streams, result_out, self._pid)
        os.close(result_out)
        # Closed without a word by a successful exec, or by the child before it calls a Python entry.
        problem = os.read(result_in, 16)
        os.close(result_in)
        if problem:
            os.waitpid(pid, 0)
            self._tell(failed=number, errno=int(problem))
            return
        process = Process(number, pid, request["container"], request["main"])
        self._by_pid[pid] = self._by_number[number] = process
        self._tell(started=number, pid=pid)

    def _signal(self, process: Process, number: int, tree: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
            if tree:
                os.killpg(process.pid, number)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                process = self._by_pid.pop(ended.si_pid, None)
                # Before the pid is free for others: what the container left in the group that bears it.
                if process is not None and process.main:
                    self._take_group(process)
                os.waitpid(ended.si_pid, 0)
                self._adopted.pop(ended.si_pid, None)
                if process is not None:
                    del self._by_number[process.number]
                    exited = ended.si_code == os.CLD_EXITED
                    code, by_signal = (ended.si_status, 0) if exited else (128 + ended.si_status, ended.si_status)
                    told = {"exited": process.number, "code": code, "signal": by_signal}
                    if process.main:
                        self._end_container(process.container)
                        self._ends[process.container] = told
                    else:
                        self._tell(**told)
        left = self._end_strays()
        # As in a PID namespace, whose first process has not ended before all others have: the ports, locks and files
        # of the last run must be free when the next one starts.
        left.update(process.container for process in self._by_pid.values())
        for container in [container for container in self._ends if container not in left]:
            self._tell(**self._ends.pop(container))

    def _take_group(self, main: Process) -> None:
        """Kill what is left in the group of a main process that has ended, and remember whose it was."""
        for pid in children(self._pid):
            if pid != main.pid and pid not in self._by_pid and group_of(pid) == main.pid:
                self._adopted[pid] = main.container
        self._kill_group(main.pid)

    def _kill_group(self, group: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

    def _end_container(self, container: str) -> None:
        """Commands that were run in a container end with its main process, as in a PID namespace."""
        for process in self._by_pid.values():
            if process.container == container:
                self._kill_group(process.pid)

    def _end_strays(self) -> set[str]:
        """Kill the adopted processes whose container has ended; their own children are adopted then, and so on.

        Returns:
            The containers that have such processes: they are gone once they have been reaped.
        """
        left: set[str] = set()
        adopted = [pid for pid in children(self._pid) if pid not in self._by_pid]
        if not adopted:
            return left
        alive = {process.container for process in self._by_pid.values() if process.main}
        for pid in adopted:
            container = self._adopted.get(pid)
            if container is None:
                container = self._adopted[pid] = variable(pid, b"LABKIT_CONTAINER=")
            if container is not None and container not in alive:
                left.add(container)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return left

    def _end_all(self) -> None:
        """Kill every descendant: each killed parent's children become ours, until there are none."""
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(ChildProcessError):
            while True:
                for pid in children(self._pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                os.waitpid(-1, 0)


def children(parent: int) -> list[int]:
    """The children of `parent`, which has one thread."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        # A kernel without CONFIG_PROC_CHILDREN.
        return [pid for pid in processes() if parent_of(pid) == parent]


def processes() -> Iterator[int]:
    """All process ids."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def parent_of(pid: int) -> int:
    """The parent of `pid`, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def group_of(pid: int) -> int:
    """The process group of `pid`, 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def variable(pid: int, prefix: bytes) -> str | None:
    """The value of the environment variable `prefix` ("NAME=") that `pid` was started with, if it can be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for item in file.read().split(b"\0"):
                if item.startswith(prefix):
                    return item[len(prefix) :].decode(errors="replace")
    except OSError:
        pass
    return None


def child(request: dict[str, Any], streams: list[int], result: int, parent: int) -> NoReturn:
    """The forked side: become the requested process."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(137)
        become(request, streams, result)
    except OSError as error:
        os.write(result, str(error.errno or 1).encode())
    except BaseException:
        traceback.print_exc()
    os._exit(127)


def become(request: dict[str, Any], streams: list[int], result: int) -> NoReturn:
    """Take on session, streams, folder and environment, then run."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    # What is ignored here would be ignored by the program that is executed, for all its life.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target, inheritable=True)
    if request["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.closerange(3, result)
    os.closerange(result + 1, 1024)
    os.chdir(request["cwd"])
    argv = request["argv"]
    if not request["entry"]:
        os.execve(argv[0], argv, request["env"])
    os.close(result)
    run_python(request["entry"], argv, request["env"])


def run_python(entry: str, argv: list[str], env: dict[str, str]) -> NoReturn:
    """Call the Python function "module:function" as a program with this command line and environment."""
    gc.enable()
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the process's life
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    name = os.path.basename(argv[0]).encode()[:15]
    _libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(name))
    code = 1
    try:
        install_shim(env.get("LABKIT_SHIM", ""))
        module, _, function = entry.partition(":")
        code = getattr(importlib.import_module(module), function)() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def install_shim(folder: str) -> None:
    """Load the sitecustomize of `folder`, which an executed Python would have loaded at its start."""
    if folder and os.path.exists(os.path.join(folder, "sitecustomize.py")):
        sys.path.insert(0, folder)
        importlib.import_module("sitecustomize")


def preload(root: str, modules: list[str]) -> None:
    """Import `modules`, without a search path: a container finds nothing of this machine's that its image has not."""
    gc.disable()
    for name, folder in (("labkit", os.path.join(root, "labkit")), ("meshbox", os.path.join(root, "meshbox"))):
        module = types.ModuleType(name)
        module.__path__ = [folder]
        sys.modules[name] = module
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:
            # The container that needs it will say so in its own log; the others run.
            traceback.print_exc()
    # Out of the collector's sight, which would write to every page that forks share.
    gc.freeze()


def main() -> None:
    """The script."""
    descriptor, root, *modules = sys.argv[1:]
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _libc.prctl(_PR_SET_NAME, b"labkit-keeper")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    preload(root, modules)
    Keeper(control).run()


if __name__ == "__main__":
    main()
