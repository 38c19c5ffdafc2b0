# SPDX-License-Identifier: Apache-2.0
"""Things that read well in a terminal, in a notebook and in a report.

Each carries plain text and HTML, so that what a learner sees live is still there when the notebook was played by
papermill. Colours are JupyterLab's own variables, with fall-backs, so that both its themes and a plain page look right.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit import kernel
from labkit.ground.language import translated

__all__ = [
    "Live",
    "Rich",
    "Shown",
    "box",
    "code",
    "command",
    "figures_without_internet",
    "import_without_grammars",
    "in_notebook",
    "marked",
    "message",
    "progress",
    "show",
    "style",
    "symbol",
    "table",
    "words",
]

_FONT = "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px);line-height:1.35"
_BOX = (
    "margin:2px 0;padding:6px 10px;border-left:3px solid {edge};background:var(--jp-layout-color2,#f4f5f7);"
    "color:var(--jp-content-font-color1,#1f2328);overflow-wrap:anywhere;" + _FONT
)
_PRE = "margin:0;padding:0;white-space:pre;background:transparent;color:inherit;" + _FONT
_EDGES = {
    "command": "var(--jp-brand-color1,#1976d2)",
    "good": "var(--jp-success-color1,#388e3c)",
    "note": "var(--jp-info-color1,#0097a7)",
    "warning": "var(--jp-warn-color1,#f57c00)",
    "bad": "var(--jp-error-color1,#d32f2f)",
}
SYMBOLS = {"good": "✔", "note": "ℹ", "warning": "⚠", "bad": "✘"}
"""What stands for a state besides its colour."""

_SPOKEN = {symbol: kind for kind, symbol in SYMBOLS.items()} | {"○": "to do", "▶": "now", "…": "not yet"}
_WIDE, _LONG = 48, 18
"""Columns and lines of text from which on it may have to be scrolled: in a window that is enlarged to 150 %, too."""

_TOKENS = (
    ("Comment", "var(--jp-mirror-editor-comment-color,#5f7d7d)"),
    ("Name.Tag", "var(--jp-mirror-editor-keyword-color,#00702d)"),
    ("Keyword", "var(--jp-mirror-editor-keyword-color,#00702d)"),
    ("Literal.String", "var(--jp-mirror-editor-string-color,#ba2121)"),
    ("Literal.Scalar", "var(--jp-mirror-editor-string-color,#ba2121)"),
    ("Literal.Number", "var(--jp-mirror-editor-number-color,#0a6)"),
    ("Name.Attribute", "var(--jp-mirror-editor-def-color,#00f)"),
)


@dataclass(frozen=True)
class Rich:
    """Something to show: `html` where HTML is shown, `text` everywhere else."""

    html: str
    text: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Rich) -> Rich:
        return Rich(self.html + other.html, f"{self.text}\n{other.text}".lstrip("\n"))


class Shown:
    """Something that shows itself as its method `rich` says: in a cell, in a terminal, and as text."""

    def rich(self) -> Rich:
        """What to show."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.rich().text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.rich()._repr_mimebundle_()


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel."""
    return kernel.running() is not None


def figures_without_internet() -> None:
    """Let plotly show its figures with the plotly.js that is installed here, as data for the page that shows them.

    JupyterLab draws them with the extension that comes with plotly, the report of a run with plotly's own copy. A
    renderer that the reader has chosen (`$PLOTLY_RENDERER`) stays.
    """
    import_without_grammars()
    # plotly reads this when it is imported, which takes long enough to leave it to those who draw.
    os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    if (loaded := sys.modules.get("plotly.io")) is not None:
        loaded.renderers.default = os.environ["PLOTLY_RENDERER"]


def import_without_grammars() -> None:
    """Import jsonschema, which nbformat and with it plotly's first figure brings, without its check of IRIs.

    That check, rfc3987_syntax, compiles grammars for two seconds when it is imported, and nothing here asks for it.
    """
    if "jsonschema" in sys.modules or "rfc3987_syntax" in sys.modules:
        return
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules["rfc3987_syntax"]


class Live:
    """Something shown that can still change: in place in a notebook, as further lines in a terminal."""

    def __init__(self, what: Rich) -> None:
        self._text = what.text
        self._handle: Any = None
        if in_notebook():
            import IPython.display as front

            present: Any = front.display
            self._handle = present(what, display_id=True)
        elif what.text:
            print(what.text, flush=True)

    def _ipython_display_(self) -> None:
        """As a cell's last line it shows nothing more: what it shows stands there already."""

    def update(self, what: Rich) -> None:
        """Show `what` instead."""
        if self._handle is not None:
            self._handle.update(what)
        elif what.text != self._text:
            print(what.text.removeprefix(self._text).lstrip("\n"), flush=True)
        self._text = what.text


def show(what: Rich) -> Live:
    """Show `what` now, not at the end of the cell."""
    return Live(what)


@contextlib.contextmanager
def progress(total: int, what: str, unit: str) -> Iterator[Callable[[], object]]:
    """A bar for what may take a while; shown once that has taken a second.

    Args:
        total: How many steps there are.
        what: What is done, as in "GET http://…".
        unit: What a step is.

    Returns:
        To be called after each step, from whatever thread.
    """
    if not in_notebook():
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit, leave=False, delay=1.0) as line:
            yield line.update
        return
    bar = _Bar(total, what, unit)
    try:
        yield bar.step
    finally:
        bar.end()


class _Bar:
    """In a notebook it is plain HTML, of which what was seen last stays; tqdm's would be a widget that is then gone."""

    def __init__(self, total: int, what: str, unit: str) -> None:
        self._total, self._what, self._unit = total, what, unit
        self._done, self._begun, self._lock = 0, time.monotonic(), threading.Lock()
        self._next = self._begun + 1.0
        self._live: Live | None = None

    def step(self) -> None:
        with self._lock:
            self._done += 1
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + 0.25
                self._draw()

    def end(self) -> None:
        with self._lock:
            if self._live is not None:
                self._draw()

    def _draw(self) -> None:
        words = f"{self._done} of {self._total} {self._unit}s · {time.monotonic() - self._begun:.0f} s"
        bar = f'<progress max="{self._total}" value="{self._done}" aria-label="{html.escape(self._what)}"></progress>'
        now = Rich(f"<div>{bar} {words} · {html.escape(self._what)}</div>", f"{words} · {self._what}")
        if self._live is None:
            self._live = Live(now)
        else:
            self._live.update(now)


def _highlight(text: str, language: str) -> str:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
    from pygments.token import string_to_tokentype  # type: ignore[import-untyped]

    styles = [(string_to_tokentype(name), colour) for name, colour in _TOKENS]
    parts: list[str] = []
    for token, value in get_lexer_by_name(language, stripnl=False).get_tokens(text):
        colour = next((colour for kind, colour in styles if token in kind), None)
        escaped = html.escape(value, quote=False)
        # Towards the text's own colour: as they are, JupyterLab's are too faint on the grey of an output.
        mixed = f"color-mix(in srgb,{colour} 50%,var(--jp-content-font-color0,#000))"
        parts.append(f'<span style="color:{mixed}">{escaped}</span>' if colour and value.strip() else escaped)
    return "".join(parts).rstrip("\n")


def _pre(content: str, text: str, label: str, height: str) -> str:
    lines = text.splitlines()
    reached = _reached(label) if len(lines) > _LONG or max(map(len, lines), default=0) > _WIDE else ""
    return f'<pre{reached} style="{_PRE};max-height:{height};overflow:auto">{content}</pre>'


def _reached(label: str) -> str:
    """Attributes by which what scrolls can be reached and scrolled by keyboard, and says what it is."""
    return f' tabindex="0" role="group" aria-label="{html.escape(label.replace("`", ""))}"'


def symbol(text: str) -> str:
    """A symbol, which is an image to those who hear it; of other text, its HTML."""
    spoken = _SPOKEN.get(text)
    return f'<span role="img" aria-label="{spoken}">{text}</span>' if spoken else _coded(text)


def style() -> Rich:
    """What has figures follow JupyterLab's theme and say what they are, to be shown once in a notebook."""
    from importlib import resources  # Slow to import, and a command shows no figures.

    css, script = (resources.files(__package__).joinpath(f"display.{kind}").read_text() for kind in ("css", "js"))
    return Rich(f"<style>{css}</style><script>{script}</script>", "")


def code(text: str, language: str = "yaml", title: str = "") -> Rich:
    """`text` highlighted.

    Args:
        text: The code.
        language: A Pygments lexer: "yaml", "bash", "promql", "json" …
        title: A caption, such as the file's name.
    """
    caption = f'<div style="opacity:.75;{_FONT}">{html.escape(title)}</div>' if title else ""
    body = caption + _pre(_highlight(text, language), text, title or language, "40em")
    plain = f"# {title}\n{text}" if title else text
    return Rich(f'<div style="{_BOX.format(edge="transparent")}">{body}</div>', plain.rstrip("\n"))


def command(line: str, output: str = "", *, failed: bool = False) -> Rich:
    """A shell command and what it printed, as a terminal shows them; "" for the output alone."""
    if not line and not output.strip("\n"):
        return Rich("", "")
    edge = _EDGES["bad" if failed else "command"]
    prompt = "\n".join(("$ " if n == 0 else "> ") + part for n, part in enumerate(line.splitlines()))
    head = f'<pre style="{_PRE};font-weight:600;white-space:pre-wrap">{html.escape(prompt, quote=False)}</pre>' * bool(
        line
    )
    body = ""
    if output.strip("\n"):
        words = line.split()
        is_yaml = any(pair in (("-o", "yaml"), ("--output", "yaml")) for pair in itertools.pairwise(words))
        is_yaml = is_yaml or "-oyaml" in words
        shown = _highlight(output, "yaml") if is_yaml else html.escape(output.strip("\n"), quote=False)
        body = _pre(shown, output, f"Output of {line.splitlines()[0] if line else 'this cell'}", "26em")
    text = f"{prompt}\n{output.strip(chr(10))}".strip("\n")
    return Rich(f'<div style="{_BOX.format(edge=edge)}">{head}{body}</div>', text)


def message(text: str, kind: str = "note", *, next_step: str = "") -> Rich:
    """One remark to the reader.

    Args:
        text: What there is to say.
        kind: "good", "note", "warning" or "bad".
        next_step: What to do about it; shown on its own line.
    """
    text, next_step = translated(text), translated(next_step)
    style = _BOX.format(edge=_EDGES[kind]).replace(_FONT, "line-height:1.45")
    step = f"<div>→ {_coded(next_step)}</div>" if next_step else ""
    body = f"<b>{symbol(SYMBOLS[kind])}</b> {_coded(text)}{step}"
    plain = f"{SYMBOLS[kind]} {text}" + (f"\n  → {next_step}" if next_step else "")
    return Rich(f'<div style="{style};white-space:pre-line">{body}</div>', plain)


def box(inside: Rich, kind: str = "note", name: str = "") -> Rich:
    """Something in a frame of its own.

    Args:
        inside: What.
        kind: "command", "good", "note", "warning" or "bad".
        name: A class of CSS, by which it is found in the page.
    """
    style = _BOX.format(edge=_EDGES[kind]).replace(_FONT, "line-height:1.45")
    return Rich(f'<div class="{html.escape(name)}" style="{style}">{inside.html}</div>', inside.text)


def marked(line: str) -> str:
    """The HTML of a line with `code` and **what matters**."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", _coded(line))


def _coded(text: str) -> str:
    """The HTML of text with `code`, which stands for itself in a terminal."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def words(text: str) -> Rich:
    """A few sentences, with `code`, **what matters**, paragraphs, and lists whose lines begin with "- "."""

    parts = []
    text = translated(text)
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = paragraph.splitlines()
        first = next((number for number, line in enumerate(lines) if line.lstrip().startswith("- ")), len(lines))
        if first:
            parts.append(f'<p style="margin:4px 0">{marked(" ".join(lines[:first]))}</p>')
        if items := " ".join(lines[first:]).split("- ")[1:]:
            rows = "".join(f"<li>{marked(item.strip())}</li>" for item in items)
            parts.append(f'<ul style="margin:4px 0">{rows}</ul>')
    return Rich("".join(parts), text.strip())


def table(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, caption: str = "") -> Rich:
    """Rows of text as a table.

    Args:
        rows: One mapping a row, by column.
        columns: The columns in order; a row may lack some.
        caption: Shown above it.
    """
    cells = [[translated(str(row.get(column, ""))) for column in columns] for row in rows]
    columns, caption = [translated(column) for column in columns], translated(caption)
    cell = "text-align:left;padding:3px 10px;vertical-align:top;white-space:pre-wrap"
    # A name is never broken at its hyphens; only sentences (a space after nine signs) wrap, and none at each word.
    name, text = cell.replace("pre-wrap", "pre"), f"{cell};min-width:20ch"
    # What heads nothing is no heading.
    head = "".join(
        f'<th scope="col" style="{cell}">{html.escape(c)}</th>' if c else f'<td style="{cell}"></td>' for c in columns
    )
    lines = ["".join(f'<td style="{text if " " in c[9:] else name}">{symbol(c)}</td>' for c in row) for row in cells]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    above = f"<div><b>{_coded(caption)}</b></div>" if caption else ""
    label = caption or f"Table of {', '.join(filter(None, columns))}"
    made = f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    markup = f'{above}<div{_reached(label)} style="overflow-x:auto">{made}</div>'
    widths = [max(len(line[n]) for line in [list(columns), *cells]) for n in range(len(columns))]
    padded = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in [list(columns), *cells]]
    plain = "\n".join(line.rstrip() for line in ([caption] if caption else []) + padded)
    return Rich(markup, plain)
