# SPDX-License-Identifier: Apache-2.0
"""The errors of labkit: one tree, drawn here.

    LabError                 anything labkit raises on purpose
    ├── SettingError         a setting, flag or environment variable is wrong
    ├── NoTargetError        no cluster was chosen (successfully), so none is talked to
    ├── MissingToolError     a program labkit needs is not installed
    ├── ClusterError         a cluster refused or could not be reached
    │   └── NotReadyError    a wait ended at its deadline (or can no longer succeed)
    ├── ReleaseError         an Istio release could not be found, fetched or verified
    ├── CheckError           what a lesson claims is not so
    ├── NotebookError        a notebook failed; names the notebook and the cell
    └── SandboxError         the sandbox could not start, stop or recover

A learner reads these messages, so each says which object, what was seen, and the next step.
"""

from __future__ import annotations

from labkit.ground.language import translated

__all__ = [
    "CheckError",
    "ClusterError",
    "LabError",
    "MissingToolError",
    "NoTargetError",
    "NotReadyError",
    "NotebookError",
    "ReleaseError",
    "SandboxError",
    "SettingError",
]


class LabError(Exception):
    """Anything labkit raises on purpose.

    Args:
        message: What was seen, naming the object it was seen on.
        next_step: What the reader can do about it; shown on its own line.
    """

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n→ {self.next_step}" if self.next_step else self.message

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows in place of a traceback: the message is the whole story."""
        return [f"{type(self).__name__}: {self.told()}"]

    def told(self) -> str:
        """The message as the reader is told it, in their language."""
        step = f"\n→ {translated(self.next_step)}" if self.next_step else ""
        return f"{translated(self.message)}{step}"


class SettingError(LabError):
    """A setting, flag or environment variable has a value that cannot be used."""


class NoTargetError(LabError):
    """No cluster was chosen, choosing one failed, or the one that was chosen is there no longer.

    Not a ClusterError: those who wait for a cluster to come round would wait in vain.
    """


class MissingToolError(LabError):
    """A program that labkit needs is not installed."""


class ClusterError(LabError):
    """A cluster refused a request or could not be reached.

    Args:
        message: What was seen.
        next_step: What the reader can do about it.
        code: The exit code of the command that found it; 0 where none did.
    """

    def __init__(self, message: str, *, next_step: str = "", code: int = 0) -> None:
        super().__init__(message, next_step=next_step)
        self.code = code


class NotReadyError(ClusterError):
    """A wait ended at its deadline, or what it waited for can no longer happen."""


class ReleaseError(LabError):
    """An Istio release could not be found, fetched or verified."""


class CheckError(LabError):
    """What a lesson claims is not so on this cluster."""


class NotebookError(LabError):
    """A notebook failed; the message names the notebook and the cell."""


class SandboxError(LabError):
    """The sandbox could not start, stop or recover."""
