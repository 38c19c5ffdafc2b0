# SPDX-License-Identifier: Apache-2.0
"""What several judges look at: who gets which answer, and whether the page is whole. A client that is not there is a
finding, no error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit import bookinfo, istio
from labkit.course.chance import expected
from labkit.course.checks import Check
from labkit.course.clients import CALLS
from labkit.ground.errors import ClusterError
from labkit.observe.access import Call, Caller, ask

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Asked", "answers", "page", "share", "told"]

_FEW, _PAGES = 6, 60
"""Pages to look at, where something is missing at once, and else: a fault of one of the three versions of reviews, of
which Envoy chooses by chance, is missed less than once in 10¹⁰ looks."""


@dataclass(frozen=True)
class Asked:
    """Answers to calls.

    Args:
        table: What `ask` has found.
    """

    table: pd.DataFrame

    def check(self, claim: str, caller: Caller, wanted: dict[str, str], next_step: str) -> Check:
        """Whether a caller's calls have the answers wanted.

        Args:
            claim: What is then so.
            caller: Who called.
            wanted: The calls' names, and the answer to each; "not 200" for any refusal.
            next_step: What to look at if it is not so.
        """
        got = {call: str(self.table.loc[caller.name, call]) for call in wanted}
        good = all(
            got[call] != "200" if answer == "not 200" else got[call] == answer for call, answer in wanted.items()
        )
        return Check(claim, good, ", ".join(f"{call}: {answer}" for call, answer in got.items()), next_step)


def answers(callers: Sequence[Caller], calls: Sequence[Call] = CALLS) -> tuple[Asked | None, list[Check]]:
    """The answers; None, with a finding that says why, where the clients cannot call."""
    try:
        return Asked(ask(callers, calls)), []
    except ClusterError as error:
        step = "Play the cell near the lesson's top that makes the clients."
        return None, [Check("the clients can call", False, error.message.splitlines()[0], step)]


def told(versions: Mapping[str, int]) -> str:
    """Which version answered how often."""
    return ", ".join(f"{version}: {count}" for version, count in versions.items())


def share(claim: str, versions: Mapping[str, int], n: int, wanted: float, words: str, next_step: str) -> Check:
    """Whether version 3 has its share of requests, as far as chance lets it.

    Args:
        claim: What is then so.
        versions: Which version answered how often.
        n: How many requests there were.
        wanted: The share, 0 to 1.
        words: The share in words, "a fifth".
        next_step: What to look at if it is not so.
    """
    new, (low, high) = versions.get("v3", 0), expected(n, wanted)
    seen = f"{new} of {n} ({new / n:.0%}); with {words}, chance gives {low} to {high}"
    return Check(claim, low <= new <= high, seen, next_step)


def page(claim: str, next_step: str) -> Iterator[Check]:
    """Whether the product page is whole, from outside."""
    url = istio.ingress(show=False).url
    try:
        pages = [bookinfo.page(url) for _ in range(_FEW)]
        if all(one.good for one in pages):
            pages += [bookinfo.page(url) for _ in range(_PAGES - _FEW)]
    except ClusterError as error:
        yield Check(claim, False, error.message, next_step)
        return
    wrong = dict.fromkeys(word for one in pages if not one.good for word in (one.errors or (f"status {one.status}",)))
    yield Check(claim, not wrong, "; ".join(wrong) or f"{_PAGES} pages, all whole", next_step)
