"""Kernels of a headless run: what they complain of goes to a file, and what they say is encrypted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.config import kernel_settings

__all__ = ["quiet"]


def quiet(log: Path) -> Any:
    """A class of kernel managers whose kernels write their stderr to `log`: a learner reads the notebook.

    An interrupted kernel tells of the sockets that were closed under it, which is neither a fault nor of use. Others on
    this machine may connect to its ports, so they get to hear nothing there (see `config.kernel_settings`).
    """
    # Only who plays notebooks needs it.
    from jupyter_client.manager import AsyncKernelManager

    class QuietKernelManager(AsyncKernelManager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kernel_settings(), **kwargs})

        async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
            command, prepared = await super()._async_pre_start_kernel(**kw)
            # The kernel gets a descriptor of its own; ours ends with the manager.
            self._log = log.open("ab")
            return command, {**prepared, "stderr": self._log}

        async def _async_post_start_kernel(self, **kw: Any) -> None:
            await super()._async_post_start_kernel(**kw)
            self._log.close()

    return QuietKernelManager
