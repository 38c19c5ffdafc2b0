# SPDX-License-Identifier: Apache-2.0
"""Have a BinderHub build the image of a commit: `python -m tools.binder_image OWNER/REPOSITORY COMMIT`.

It asks as a browser does that opens Binder's link, and tells each phase of the build once. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

HUB = "https://mybinder.org"
SILENCE = 120.0
"""Seconds without a word after which nobody is there any more; a hub says something every half minute."""


def events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a BinderHub's answer: JSON objects after `data:`; all else keeps the connection open."""
    for line in lines:
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


def build(repository: str, commit: str, hub: str = HUB, minutes: float = 50.0) -> str:
    """Ask for the image, and follow what is said of it.

    Args:
        repository: "OWNER/NAME" on GitHub.
        commit: A commit's hash, or a branch or tag.
        hub: The BinderHub's address.
        minutes: How long to listen at most.

    Returns:
        "built"; "failed: …" with the hub's words; or "goes on without us", if it takes longer.
    """
    until = time.monotonic() + 60 * minutes
    url = f"{hub.rstrip('/')}/build/gh/{repository}/{quote(commit, safe='')}"
    said = ""
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as answer:
            for event in events(answer):
                phase = event.get("phase") or ""
                if phase not in ("", said):
                    said = phase
                    print(phase, flush=True)
                if phase == "failed":
                    return f"failed: {str(event.get('message', '')).strip() or 'the hub does not say why'}"
                # What follows is a server for whoever asked, and nobody here wants one.
                if phase in ("built", "launching", "ready"):
                    return "built"
                if time.monotonic() > until:
                    return "goes on without us"
    except (OSError, ValueError) as error:
        return f"failed: {url}: {error}"
    return f"failed: {url}: the answer ended after {said or 'nothing'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and tell what became of it; exit code 1 if there will be no image."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.binder_image", description="Have a BinderHub build the image of a commit."
    )
    parser.add_argument("repository", metavar="OWNER/REPOSITORY")
    parser.add_argument("commit", metavar="COMMIT")
    parser.add_argument("--hub", default=HUB, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=50.0, help="how long to listen (default: %(default)s)")
    said = parser.parse_args(arguments)
    outcome = build(said.repository, said.commit, said.hub, said.minutes)
    print(outcome)
    return outcome.startswith("failed")


if __name__ == "__main__":
    sys.exit(main())
