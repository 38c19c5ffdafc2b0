"""`kubectl port-forward` with a lifetime: a free loopback port, certainly ours, that survives its pod."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from types import TracebackType

from labkit import display
from labkit.cluster import identity
from labkit.cluster import target as targets
from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import kubectl_program
from labkit.errors import ClusterError, NotReadyError

__all__ = ["PortForward", "port_forward"]

_BOUND = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+")

# Ends kubectl with its parent, even one that was killed: a forward must not outlive the notebook it belongs to.
_LEASH = (
    "import ctypes,os,signal,sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "sys.exit(1) if os.getppid() != int(sys.argv[1]) else os.execv(sys.argv[2], sys.argv[2:])\n"
)


class PortForward:
    """A running port-forward; use it in a `with` block, or call `close`.

    kubectl ends when its pod does; it is then started again on the same local port, to whichever pod is there by then.
    It ends for good with the cluster it belongs to: when another is chosen, or another answers at its address.
    """

    def __init__(self, resource: str, port: int, *, namespace: str, local_port: int, timeout: float) -> None:
        self.resource = resource
        self.remote_port = port
        self.namespace = namespace
        self.port = local_port
        self._target = targets.checked(write=True)
        self._stopped = threading.Event()
        self._bound = threading.Event()
        self._said = ""
        self._process: subprocess.Popen[str] | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"port-forward {resource}", daemon=True)
        self._keeper.start()
        targets.ends_with_target(self)
        deadline = time.monotonic() + timeout
        while not self._bound.wait(0.05):
            if not self._keeper.is_alive() or time.monotonic() > deadline:
                self.close()
                said = self._said or f"no port was bound within {timeout:g} s"
                raise explain(self.command, said, 1, str(self._target))

    @property
    def command(self) -> str:
        """The command, as a learner types it."""
        scope = f" -n {self.namespace}" if self.namespace else ""
        local = self.port or ""
        return f"kubectl port-forward{scope} --address 127.0.0.1 {self.resource} {local}:{self.remote_port}"

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bound(self) -> bool:
        """Whether connections are taken now (not while kubectl is being started again)."""
        return self._bound.is_set()

    @property
    def closed(self) -> bool:
        """Whether it has ended for good."""
        return self._stopped.is_set()

    def wait_until_bound(self, timeout: float = 30.0) -> None:
        """Wait until connections are taken (again).

        Raises:
            NotReadyError: Not within `timeout` seconds, or it has ended for good.
        """
        if self.closed:
            raise NotReadyError(f"{self.command} was ended", next_step="Run the cell that opened it again.")
        if not self._bound.wait(timeout):
            raise NotReadyError(
                f"{self.command} is not back after {timeout:g} s: {self._said.strip()}",
                next_step="Is there a ready pod behind it? `kubectl get pods` in its namespace.",
            )

    def close(self) -> None:
        """End it; its port is free afterwards."""
        self.end()
        self._keeper.join(timeout=5.0)

    def end(self) -> None:
        """End it, and do not wait until it has."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.terminate()

    def __enter__(self) -> PortForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PortForward({self.resource} {self.url} -> {self.remote_port})"

    def _keep(self) -> None:
        # All starts are this thread's: the kernel's leash holds to the thread that started the process.
        pause, ever = 0.1, False
        while not self._stopped.is_set():
            if ever and identity.difference(self._target, thorough=False):
                self.end()
                return
            if self._once():
                pause, ever = 0.1, True
            elif not ever:
                return  # the caller is told why; another try would only be refused again
            self._stopped.wait(pause)
            pause = min(pause * 2, 2.0)

    def _once(self) -> bool:
        scope = ["-n", self.namespace] if self.namespace else []
        ports = f"{self.port or ''}:{self.remote_port}"
        program = [kubectl_program(), *self._target.arguments, "port-forward", *scope]
        program += ["--address", "127.0.0.1", self.resource, ports]
        leash = [sys.executable, "-S", "-E", "-c", _LEASH, str(_pid())]
        process = subprocess.Popen(
            [*leash, *program],
            env=self._target.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._process = process
        if self._stopped.is_set():
            process.terminate()
        ever = False
        lines: list[str] = []
        with process, contextlib.suppress(ValueError):
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                # Kept when the next start has no time to say anything.
                self._said = "".join(lines[-5:])
                found = _BOUND.search(line)
                if found:
                    # kubectl says so after it has bound the port itself, so the port is nobody else's.
                    self.port = int(found[1])
                    ever = True
                    self._bound.set()
                elif "lost connection to pod" in line:
                    process.terminate()
        self._bound.clear()
        return ever


def _pid() -> int:
    import os

    return os.getpid()


def port_forward(
    resource: str,
    port: int,
    *,
    namespace: str = "",
    local_port: int = 0,
    timeout: float = 20.0,
    show: bool = True,
) -> PortForward:
    """Forward a free port of 127.0.0.1 to a pod, until closed.

    Args:
        resource: "pod/NAME", "svc/NAME" or "deploy/NAME".
        port: The port there.
        namespace: "" for the context's own.
        local_port: The port here; 0 for a free one.
        timeout: Seconds until it must be bound.
        show: Whether to show the command.

    Raises:
        ClusterError: There is no such object, its pod does not run, or the local port is taken.
    """
    try:
        forward = PortForward(resource, port, namespace=namespace, local_port=local_port, timeout=timeout)
    except ClusterError as error:
        if "address already in use" in error.message:
            raise ClusterError(error.message, next_step="Leave local_port out: a free port is chosen then.") from None
        raise
    if show:
        display.show(display.command(forward.command, f"Forwarding from {forward.url} -> {port}"))
    return forward
