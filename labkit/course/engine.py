# SPDX-License-Identifier: Apache-2.0
"""Papermill's way to play a notebook, which writes it down now and then and not twice a cell."""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

__all__ = ["NAME"]

NAME = "labkit"
"""What papermill knows the engine by."""

_EVERY = 5.0
"""Seconds between two times that the notebook is written while it is played."""


class _Saving(NotebookExecutionManager):  # type: ignore[misc]
    """Where a notebook is while it is played.

    Papermill writes the whole of it before and after each cell, words included. That is 10 to 20 ms of CPU each time,
    as it is judged by its schema first: one to two seconds of a lesson, in which nothing is played.
    """

    _written = False

    def save(self, **kwargs: Any) -> None:
        waited = (self.now() - self.last_save_time).total_seconds()
        # How it began tells that it did, and how it ended is what is read: also where the kernel died.
        if not self._written or self.end_time is not None or waited >= _EVERY:
            self._written = True
            super().save(**kwargs)


class _Engine(NBClientEngine):  # type: ignore[misc]
    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        **more: Any,
    ) -> Any:
        playing = _Saving(nb, output_path=output_path, log_output=log_output, progress_bar=progress_bar)
        playing.notebook_start()
        try:
            cls.execute_managed_notebook(playing, kernel_name, log_output=log_output, **more)
        finally:
            playing.cleanup_pbar()
            playing.notebook_complete()
        return playing.nb


papermill_engines.register(NAME, _Engine)
