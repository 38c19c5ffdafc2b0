# SPDX-License-Identifier: Apache-2.0
"""Which cluster: none until one was chosen, then that one and no other.

`$KUBECONFIG` and `~/.kube/config` are where a cluster may be named, never what is used because nobody named one. What
cannot be chosen leaves nothing chosen: each helper then says why, and so does a `kubectl` in a cell or a terminal.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from labkit import display
from labkit.cluster import client, identity, kubeconfig
from labkit.cluster.kubeconfig import Chosen, Target
from labkit.ground.errors import LabError, NoTargetError, SettingError

__all__ = [
    "Chosen",
    "Target",
    "checked",
    "choosing",
    "current",
    "end_lesson",
    "ends_with_lesson",
    "ends_with_target",
    "leave",
    "require_no_refusal",
    "use",
]


class _Bound(Protocol):
    """What leads to the cluster in use."""

    def end(self) -> None: ...


@dataclass(frozen=True)
class _Nothing:
    """Why there is no cluster to talk to.

    Args:
        message: The reason.
        next_step: What to do about it.
        failed: Whether choosing one failed, or the chosen one is lost.
    """

    message: str
    next_step: str
    failed: bool = True

    def error(self) -> NoTargetError:
        return NoTargetError(self.message, next_step=self.next_step)


_BEGIN = (
    "Run the lesson's first cells: `course.begin` chooses one. In a notebook of your own: "
    '`cluster.use(cluster.Target("/path/to/kubeconfig"))`.'
)
_NOTHING_YET = _Nothing("no cluster was chosen here yet", _BEGIN, failed=False)
_UNFINISHED = _Nothing("no cluster is in use: choosing one was not finished", _BEGIN)

_state: Chosen | _Nothing = _NOTHING_YET
_settled: Chosen | _Nothing = _NOTHING_YET
_bound: weakref.WeakSet[_Bound] = weakref.WeakSet()
_of_lesson: weakref.WeakSet[_Bound] = weakref.WeakSet()


def use(target: Target) -> Chosen:
    """Make `target` the one that every helper talks to from now on, and `!kubectl` in this notebook as well.

    It is asked once who it is; from then on the server's address and that identity count, whatever becomes of the
    kubeconfig it was named in.

    Raises:
        SettingError: There is no such context, or no kubeconfig of our own can be written.
        ClusterError: It does not answer.
    """
    with choosing():
        if target == Target():
            raise SettingError(
                "Target() names no cluster: the current context may be anybody's",
                next_step='Name one: Target(context="my-context") or Target("/path/to/kubeconfig").',
            )
        view = kubeconfig.minified(target)
        file = kubeconfig.keep(view)
        uid = identity.uid_of(file, str(target))
        chosen = Chosen(target, view["current-context"], view["clusters"][0]["cluster"]["server"], uid, file)
        _set(chosen)
    return chosen


def current() -> Chosen:
    """The cluster that was chosen.

    Raises:
        NoTargetError: None was, or choosing one failed: with the reason.
    """
    if isinstance(_state, Chosen):
        return _state
    raise _state.error()


def checked(*, write: bool) -> Chosen:
    """The cluster that was chosen, once it is certain that no other has come to its address.

    Args:
        write: Whether it is going to be changed; it then has to say who it is. What only reads may find out for itself
            that nobody answers.

    Raises:
        NoTargetError: Another one answers; nothing is chosen any more.
        ClusterError: Nobody answers, and it was to be changed.
    """
    chosen = current()
    found = identity.difference(chosen, thorough=write)
    if found:
        again = "Run the lesson's first cell again, if the one that is there now is meant."
        lost = _Nothing(f"no cluster is in use any more: {found}", again)
        # A widget asks from a thread of its own: by now another one may be chosen, which is not lost.
        if _state is chosen:
            _set(lost)
        raise lost.error()
    return chosen


def require_no_refusal() -> None:
    """For what goes to an address that was found before: not after choosing a cluster has failed.

    Raises:
        NoTargetError: It has failed; with the reason.
    """
    if isinstance(_state, _Nothing) and _state.failed:
        raise _state.error()


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """While a cluster is being chosen there is none; if that fails, by whatever, there is none afterwards."""
    global _state
    _state = _UNFINISHED
    try:
        yield
    except BaseException as error:
        _set(_why(error))
        raise
    if _state is _UNFINISHED:
        _set(_UNFINISHED)


def leave() -> None:
    """Have no cluster in use, as before the first was chosen, and `$KUBECONFIG` what it was then."""
    _set(_NOTHING_YET)
    kubeconfig.point_back()


def ends_with_target(what: _Bound) -> None:
    """Have `what` ended when the cluster that is in use now no longer is."""
    _bound.add(what)


def ends_with_lesson(what: _Bound) -> None:
    """Have `what` ended when the next lesson begins, also on the same cluster."""
    _of_lesson.add(what)


def end_lesson() -> None:
    """End what belongs to the lesson that was played here so far."""
    for what in list(_of_lesson):
        what.end()
    _of_lesson.clear()


def _why(error: BaseException) -> _Nothing:
    if isinstance(error, LabError):
        step = error.next_step.rstrip(". ")
        message = error.message
    else:
        step, message = "", "it was interrupted" if isinstance(error, KeyboardInterrupt) else repr(error)
    return _Nothing(
        f"no cluster is in use, since choosing one failed: {message}",
        f"{step}; then run the lesson's first cell again." if step else "Run the lesson's first cell again.",
    )


def _set(state: Chosen | _Nothing) -> None:
    global _state, _settled
    before, _state, _settled = _settled, state, state
    if isinstance(state, Chosen):
        kubeconfig.point_to(state.variable)
    else:
        client.end()
        kubeconfig.point_to(kubeconfig.nowhere(f"{state.message}\n→ {state.next_step}"))
    if state != before:
        for what in list(_bound):
            what.end()
        _bound.clear()


if display.in_notebook():
    # A cell such as `!kubectl delete …` must not reach the reader's own cluster where no lesson has begun.
    _set(_NOTHING_YET)
