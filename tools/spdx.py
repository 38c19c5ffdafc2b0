# SPDX-License-Identifier: Apache-2.0
"""Have each source file of ours name its licence in its first line: `python -m tools.spdx`.

It adds the line where it is missing, behind what has to stand first (`#!`, a doctype). `tools/check_files.py` says
which files lack it. Notebooks, data and pictures have none: LICENSE is for all of the repository.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LINE = "SPDX-License-Identifier: Apache-2.0"

_MARKS = {
    ".py": "# {}",
    ".sh": "# {}",
    ".lua": "-- {}",
    ".js": "// {}",
    ".ts": "// {}",
    ".go": "// {}",
    ".css": "/* {} */",
    ".html": "<!-- {} -->",
}


def header(path: Path) -> str:
    """The line that a file has to begin with; "" for a kind of file that has none."""
    mark = _MARKS.get(path.suffix)
    if mark is None and not path.suffix and _first_line(path).startswith("#!"):
        mark = "# {}"
    return mark.format(LINE) if mark else ""


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline()


def lacks(path: Path) -> bool:
    """Whether a file of ours should name its licence and does not; one with nothing in it need not."""
    wanted = header(path)
    return bool(wanted) and path.stat().st_size > 0 and wanted not in path.read_text("utf-8").split("\n", 2)[:2]


def headed(text: str, line: str) -> str:
    """`text` with `line` as its first, or its second behind what must stand first."""
    first, end, rest = text.partition("\n")
    if first.startswith("#!") or first.lower().startswith("<!doctype"):
        return f"{first}{end}{line}\n{rest}"
    return f"{line}\n{text}"


def sources() -> list[Path]:
    """The files of this repository, links left out: those that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for line in listed.splitlines() if (path := Path(line)).is_file() and not path.is_symlink()]


def main() -> int:
    """Add what is missing, and name the files."""
    changed = [path for path in sources() if lacks(path)]
    for path in changed:
        path.write_text(headed(path.read_text("utf-8"), header(path)), "utf-8")
        print(path)
    print(f"{len(changed)} files name their licence now", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
