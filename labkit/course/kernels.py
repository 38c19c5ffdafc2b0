# SPDX-License-Identifier: Apache-2.0
"""Kernels of a headless run: without ports; what they say is encrypted, and what they complain of goes to a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from labkit.ground.config import kernel_settings

__all__ = ["ARGUMENTS", "Ahead", "quiet"]

ARGUMENTS = ["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"]
"""Of every kernel: the history of a learner's own sessions is left alone."""

_WARM = (
    "import labkit.display; labkit.display.import_without_grammars(); "
    "import labkit.bookinfo, labkit.cluster.login, labkit.course, labkit.ui, nbformat, pandas, plotly.express; "
    "del labkit, nbformat, pandas, plotly"
)
"""What a lesson's first cells, and its first figure, would load: over a second of CPU."""

_MODULE = ("-m", "ipykernel_launcher")
_LEAVING = (
    "import atexit, os, runpy; atexit.register(os._exit, 0); "
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)
"""What is registered first is done last, so all that a kernel puts in order is. Then it is gone: to take all it has
loaded apart costs 0.3 s of CPU, for which the next lesson would wait."""


def quiet(log: Path) -> Any:
    """A class of kernel managers whose kernels write their stderr to `log`: a learner reads the notebook.

    When such a kernel is told to end it does what is registered for its end, and takes nothing else apart.

    It is interrupted first, and tells of the sockets that were closed under it, which is neither a fault nor of use:
    what it writes from then on is left out. Its channels have no TCP ports, as one that was free a moment ago may be
    taken by the time the kernel is there. Others on this machine hear nothing of it (see `config.kernel_settings`).
    """
    # Only who plays notebooks needs it.
    from jupyter_client.manager import AsyncKernelManager

    class QuietKernelManager(AsyncKernelManager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # A name that no file stands for; on other systems it would be a file's.
            name = {"transport": "ipc", "ip": f"@kernel-{secrets.token_hex(8)}"} if sys.platform == "linux" else {}
            super().__init__(*args, **{**kernel_settings(), **name, **kwargs})

        async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
            command, prepared = await super()._async_pre_start_kernel(**kw)
            # The kernel gets a descriptor of its own; ours ends with the manager.
            self._log = log.open("ab")
            return _leaving(command), {**prepared, "stderr": self._log}

        async def _async_post_start_kernel(self, **kw: Any) -> None:
            await super()._async_post_start_kernel(**kw)
            self._log.close()

        async def shutdown_kernel(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
            said = log.stat().st_size if log.is_file() else 0
            await super().shutdown_kernel(*args, **kwargs)
            with contextlib.suppress(FileNotFoundError):
                os.truncate(log, said)

    return QuietKernelManager


def _leaving(command: list[str]) -> list[str]:
    """The same kernel, gone once it has put all in order; a command of another form stays as it is."""
    for number, words in enumerate(pairwise(command)):
        if words == _MODULE:
            return [*command[:number], "-c", _LEAVING, *command[number + 2 :]]
    return command


class Ahead:
    """The kernel of the next notebook, which starts while another is played: that is a second or two of each.

    It is a kernel like any other; labkit's modules are in its memory already, and nothing is in its namespace.
    """

    def __init__(self) -> None:
        self._started: dict[Path, tuple[Any, Path]] = {}

    def prepare(self, notebook: Path, log: Path) -> None:
        """Start a kernel for `notebook`, with its stderr in `log`."""
        from jupyter_client.kernelspec import NoSuchKernel
        from jupyter_core.utils import run_sync

        manager = quiet(log)(kernel_name="python3")
        arguments = [*ARGUMENTS, f"--IPKernelApp.exec_lines={_WARM}"]
        # What is wrong with kernels here is told where one is needed.
        with contextlib.suppress(NoSuchKernel, OSError, RuntimeError):
            run_sync(manager.start_kernel)(extra_arguments=arguments, cwd=str(notebook.parent))
            self._started[notebook] = manager, log

    @contextlib.contextmanager
    def manager(self, notebook: Path, log: Path) -> Iterator[Any]:
        """A class of kernel managers to play `notebook` with: of the kernel that was started for it, if it runs."""
        from jupyter_core.utils import run_sync

        known, _ = self._started.pop(notebook, (None, log))
        try:
            if known is not None and run_sync(known.is_alive)():

                class Prepared(type(known)):  # type: ignore[misc]
                    def __new__(cls, *_: Any, **__: Any) -> Any:
                        return known

                yield Prepared
                return
        finally:
            if known is not None:
                _end(known)
        if known is not None:
            # Nothing was played in it, so what it complained of is not of this notebook.
            log.unlink(missing_ok=True)
        yield quiet(log)

    def close(self) -> None:
        """End the kernels that were started for nothing."""
        while self._started:
            _, (manager, log) = self._started.popitem()
            _end(manager)
            log.unlink(missing_ok=True)


def _end(manager: Any) -> None:
    from jupyter_core.utils import ensure_event_loop, run_sync

    # What was interrupted as it ended has its end still waiting there, and that would end what runs next.
    if not (loop := ensure_event_loop()).is_running():
        loop.stop()
        loop.run_forever()
    if run_sync(manager.is_alive)():
        run_sync(manager.shutdown_kernel)(now=True)
    else:
        run_sync(manager.cleanup_resources)()
