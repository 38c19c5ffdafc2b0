# SPDX-License-Identifier: Apache-2.0
"""What a run leaves to read: one HTML page that needs nothing else, and junit.xml."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import display
from labkit.course.pages import Pages, plotly_script, style

if TYPE_CHECKING:
    from labkit.course.result import Result

__all__ = ["write_junit", "write_report"]

_MARKS = {"passed": display.SYMBOLS["good"], "failed": display.SYMBOLS["bad"], "skipped": "○"}


def write_report(results: Sequence[Result], path: Path, release: str) -> None:
    """Write all executed notebooks as one page.

    Args:
        results: What was played.
        path: The page.
        release: The Istio release, for its title.
    """
    pages = Pages()
    sections, rows = [], []
    for result in results:
        mark, title = _MARKS[result.outcome], html.escape(result.notebook)
        detail = result.error.strip().splitlines()[0] if result.error.strip() else f"{result.cells} cells"
        detail = html.escape(f"cell {result.cell}: {detail}" if result.cell else detail)
        rows.append(
            f'<tr class="{result.outcome}"><td>{mark}</td><td><a href="#{title}">{title}</a></td>'
            f"<td>{result.seconds:.1f} s</td><td>{detail}</td></tr>"
        )
        if result.path is not None:
            sections.append(f'<section id="{title}" class="{result.outcome}">{pages.body(result.path)}</section>')
    passed = sum(result.outcome == "passed" for result in results)
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    script = f"<script>{plotly_script()}</script>" if pages.figures else ""
    path.write_text(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Istio {html.escape(release)}: {passed} of {len(results)} notebooks passed</title>"
        f"<style>{style()}</style>{script}</head><body>"
        f"<header><h1>Workshop on Istio {html.escape(release)}</h1>"
        f"<p>{passed} of {len(results)} notebooks passed · {when}</p>"
        f"<table>{''.join(rows)}</table></header><main>{''.join(sections)}</main></body></html>\n"
    )


def write_junit(results: Sequence[Result], path: Path, release: str) -> None:
    """Write the results as JUnit XML: one test case a notebook.

    Args:
        results: What was played.
        path: The file.
        release: The Istio release; part of the suite's name.
    """
    count = {outcome: sum(r.outcome == outcome for r in results) for outcome in _MARKS}
    suite = ET.Element(
        "testsuite",
        name=f"istio-{release}",
        tests=str(len(results)),
        failures=str(count["failed"]),
        errors="0",
        skipped=str(count["skipped"]),
        time=f"{sum(r.seconds for r in results):.3f}",
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=f"istio-{release}", name=result.notebook, time=f"{result.seconds:.3f}"
        )
        told = "".join(c for c in result.error if c.isprintable() or c in "\n\t")
        if result.outcome == "failed":
            where = f"cell {result.cell}: " if result.cell else ""
            failure = ET.SubElement(case, "failure", message=where + (told.splitlines()[0] if told else ""))
            failure.text = told
        elif result.outcome == "skipped":
            ET.SubElement(case, "skipped", message=told)
    tree = ET.ElementTree(suite)
    ET.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)
