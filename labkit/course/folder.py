# SPDX-License-Identifier: Apache-2.0
"""Where the course's notebooks are: one folder of a checkout, which a wheel carries as data of this package."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.ground.errors import NotebookError

__all__ = ["GLOSSARY", "notebooks", "unlinked"]

GLOSSARY = "glossary.md"
"""The page with the course's words, beside the notebooks; `tools/glossary.py` writes it, and what leads there."""

_LED = re.compile(rf"\[([^]]+)\]\({re.escape(GLOSSARY)}#[^)]*\)")


def unlinked(text: str) -> str:
    """Markdown without what leads its words to the glossary."""
    return _LED.sub(r"\1", text)


def notebooks() -> Path:
    """The folder of the course's notebooks and their pictures, as they were delivered: it is for reading and copying.

    Returns:
        The checkout's own folder where labkit runs from a checkout, else the one that came with the package.

    Raises:
        NotebookError: This copy of labkit has none.
    """
    here = Path(__file__).resolve()
    # A link beside this file; where git makes no links (Windows), the folder that it would lead to.
    for folder in (here.with_name("notebooks"), here.parents[2] / "notebooks"):
        if any(folder.glob("*.ipynb")):
            return folder.resolve()
    raise NotebookError(
        f"this copy of labkit has no notebooks: {here.parent} is not complete",
        next_step="Install it anew, or name the notebooks.",
    )
