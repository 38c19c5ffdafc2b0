# SPDX-License-Identifier: Apache-2.0
"""Envoy's response flags (`flags.tsv`): what the letters in an access log, and in the label `response_flags`, say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FLAGS", "Flag", "flags"]


@dataclass(frozen=True)
class Flag:
    """One flag.

    Args:
        name: Envoy's long name for it.
        says: What happened.
        look: Where to look first.
    """

    name: str
    says: str
    look: str


_ROWS = Path(__file__).with_name("flags.tsv").read_text("utf-8").splitlines()[1:]
FLAGS = {short: Flag(*more) for short, *more in (row.split("\t") for row in _ROWS)}
"""By the short name that logs and metrics have. "-" is none: the answer came from the other side, or from a filter."""


def flags() -> pd.DataFrame:
    """All flags, the commonest first: index "flag" (its short name), columns name, says and look (str)."""
    import pandas as pd

    # A table is no Markdown.
    rows = [[one.name, one.says, one.look.replace("`", "")] for one in FLAGS.values()]
    index = pd.Index(list(FLAGS), name="flag", dtype="str")
    return pd.DataFrame(rows, index=index, columns=["name", "says", "look"], dtype="str")
