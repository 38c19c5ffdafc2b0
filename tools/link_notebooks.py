# SPDX-License-Identifier: Apache-2.0
"""Write the last cell of each notebook: links to its neighbours in LESSONS, the start page and the glossary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from labkit.course import LESSONS
from labkit.course.folder import GLOSSARY

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
START = "00-start.ipynb"
CELL = "links"


def links(name: str) -> str:
    """What the last cell of lesson `name` says."""
    names = list(LESSONS)
    place = names.index(name)
    parts = [f"← [{LESSONS[before]}]({before}.ipynb)" for before in names[max(place - 1, 0) : place]]
    parts += [f"[Start page]({START})", f"[Glossary]({GLOSSARY})"]
    parts += [f"[{LESSONS[after]}]({after}.ipynb) →" for after in names[place + 1 : place + 2]]
    return " · ".join(parts)


def write(path: Path) -> bool:
    """Give a notebook its links; returns whether anything was to be changed."""
    text = path.read_text(encoding="utf-8")
    notebook: dict[str, Any] = json.loads(text)
    cells = [cell for cell in notebook["cells"] if cell.get("id") != CELL]
    cells.append({"cell_type": "markdown", "id": CELL, "metadata": {}, "source": [links(path.stem)]})
    notebook["cells"] = cells
    new = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if new != text:
        path.write_text(new, encoding="utf-8")
    return new != text


def main() -> int:
    """Write them all; says what has changed."""
    for name in LESSONS:
        if write(FOLDER / f"{name}.ipynb"):
            print(f"notebooks/{name}.ipynb: its links are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
