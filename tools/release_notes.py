# SPDX-License-Identifier: Apache-2.0
"""What CHANGELOG.md says of a release: `python -m tools.release_notes v0.2.0`.

It is printed as it stands there, for the release's page. A tag that is not labkit's version, and a section that is
missing, empty or not dated yet, end it with a sentence and exit code 1: nothing is released then.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import labkit

ROOT = Path(__file__).resolve().parents[1]

_HEADING = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def notes(tag: str, changelog: str, version: str = labkit.__version__) -> str:
    """The section of `changelog` about `tag`.

    Args:
        tag: "v" and the version.
        changelog: The text with a section `## VERSION (DATE)` for each release, the newest first.
        version: What the package says that it is.

    Raises:
        ValueError: It is not to be released; the text says why.
    """
    if tag != f"v{version}":
        raise ValueError(f"the tag {tag} is not of version {version}, which labkit/__init__.py says: tag v{version}")
    headings = list(_HEADING.finditer(changelog))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["version"] != version:
            continue
        if not _DATE.fullmatch(heading["date"]):
            raise ValueError(f"CHANGELOG.md says {version} ({heading['date']}): write its date instead, as YYYY-MM-DD")
        text = changelog[heading.end() : following.start() if following else None].strip()
        if not text:
            raise ValueError(f"CHANGELOG.md has nothing to say of {version}")
        return text
    raise ValueError(f"CHANGELOG.md has no section `## {version} (YYYY-MM-DD)`")


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Print the notes; exit code 1 with a sentence if there is nothing to release."""
    if len(arguments) != 1:
        print("which tag? python -m tools.release_notes vVERSION", file=sys.stderr)
        return 2
    try:
        print(notes(arguments[0], (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    except ValueError as error:
        print(f"not released: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
