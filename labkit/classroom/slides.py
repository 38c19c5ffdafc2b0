# SPDX-License-Identifier: Apache-2.0
"""Slides of the lessons, made of what they say: to show in front of a class, with no network.

Pages of reveal.js, which pyreveal carries: its scripts are copied beside them. A lesson's sections stand side by side,
and what belongs to one (the picture, the question before an experiment, the experiment, its answer, the exercise)
stands below it. What an instructor says is in reveal's notes: the key S.
"""

from __future__ import annotations

import ast
import html
import importlib.util
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.course.exercise import only
from labkit.ground.errors import CheckError, MissingToolError
from labkit.ground.language import current, translated

__all__ = ["bring_reveal", "deck", "page"]

_FILES = ("reveal.js", "reveal.css", "reset.css", "plugin/notes.js")
_IMAGE = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")
_MAGIC = re.compile(r"%%(\w+)[^\n]*\n")
_LEXERS = {"sh": "bash", "yaml": "yaml"}
_BESIDE = re.compile(r'<a href="(?:\d\d-[a-z-]+\.ipynb|glossary\.md)[^"]*">(.*?)</a>', re.DOTALL)


def bring_reveal(out: Path) -> None:
    """Copy what pages of reveal.js need to a folder: its scripts, its style and its licence.

    Args:
        out: The folder; made where it is not there.

    Raises:
        MissingToolError: It is not installed.
        OSError: It cannot be written.
    """
    found = importlib.util.find_spec("pyreveal")
    if found is None or not found.submodule_search_locations:
        raise MissingToolError(
            "slides need reveal.js, which is not installed",
            next_step="`pip install 'mesh-workshop[slides]'` brings it, in a checkout `pip install -e '.[slides]'`.",
        )
    reveal = Path(found.submodule_search_locations[0]) / "revealjs"
    out.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(reveal / "dist" / name, out / Path(name).name)
    shutil.copy(reveal / "LICENSE", out / "LICENSE")
    (out / "slides.css").write_text(f"{_own_style()}\n", encoding="utf-8")


def deck(name: str, cells: Sequence[Mapping[str, Any]], points: Sequence[str], notes: str, release: str) -> str:
    """A lesson's slides, as the page's body.

    Args:
        name: The lesson.
        cells: Its notebook's cells.
        points: What was learned in it, as Markdown.
        notes: What to say, as Markdown.
        release: Of Istio: what it lacks is left out.
    """
    stacks = [[_title(cells[0], notes)]]
    answer = _Asked()
    for cell in cells[1:]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            if cell.get("id") in ("closing", "questions", "links"):
                continue
            for heading, said in _sections(text):
                if heading:
                    stacks.append([])
                    answer = _Asked()
                stacks[-1] += _words(heading, said)
        elif "solution" not in cell.get("metadata", {}).get("tags", []):
            stacks[-1] += _code(name, text, answer, release)
    learned = "".join(f"<li>{_inline(point)}</li>" for point in points)
    if learned:
        stacks.append([f"<h2>{html.escape(translated('What was learned'))}</h2><ul>{learned}</ul>"])
    return '<div class="reveal"><div class="slides">' + "".join(map(_stack, stacks)) + "</div></div>" + _SCRIPT


_SCRIPT = """<script src="reveal/reveal.js"></script><script src="reveal/notes.js"></script>
<script>Reveal.initialize({hash: true, slideNumber: "c/t", width: 1280, height: 720, margin: 0.05, center: false,
  transition: "none", plugins: [RevealNotes]});</script>"""


class _Asked:
    """What a section is about to find out.

    Attributes:
        options: The answers to the question that was asked last; () for none.
        question: That question.
        shown: Whether the section has shown an experiment since.
    """

    def __init__(self) -> None:
        self.options: tuple[str, ...] = ()
        self.question = ""
        self.shown = False


def _title(cell: Mapping[str, Any], notes: str) -> str:
    title, *parts = re.split(r"\n\s*\n", "".join(cell["source"]).strip())
    said = "".join(f"<p>{_inline(part)}</p>" for part in parts[:2])
    return f"<h1>{_inline(title.removeprefix('# '))}</h1>{said}{_notes(notes)}"


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """A cell's words, cut where a heading begins; what stands before the first has none."""
    first, *rest = re.split(r"^## +", text, flags=re.MULTILINE)
    if first.strip():
        yield "", first
    for part in rest:
        heading, _, said = part.partition("\n")
        yield heading.strip(), said


def _words(heading: str, said: str) -> Iterator[str]:
    """The section's heading with its first paragraph, and each picture on a slide of its own."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", said.strip())]
    if heading:
        prose = next((part for part in paragraphs if part and not part.startswith(("![", "|", "#", "<", "```"))), "")
        rest = "\n\n".join(part for part in paragraphs if part != prose and not _IMAGE.match(part))
        yield f"<h2>{_inline(heading)}</h2>{_markdown(prose)}{_notes(rest)}"
    for alt, path in _IMAGE.findall(said):
        yield f'<img class="picture" src="{html.escape(path)}" alt="{html.escape(alt)}">'


def _code(name: str, text: str, answer: _Asked, release: str) -> Iterator[str]:
    """What a cell shows in front of a class: a question, an experiment, its answer, or an exercise."""
    magic = _MAGIC.match(text)
    if magic and magic[1] in _LEXERS:
        # One a section, and one after each question: the others are in the notebook.
        if not answer.shown and not _empty(text[magic.end() :]):
            answer.shown = True
            yield _highlighted(text[magic.end() :], _LEXERS[magic[1]])
        return
    if magic:
        return
    calls = list(_calls(text))
    asked = [f"kubectl {line}" for call, (line, *_) in calls if call == "kubectl" and isinstance(line, str)]
    if asked and not answer.shown:
        answer.shown = True
        yield _highlighted("\n".join(asked), "bash")
    for call, arguments in calls:
        match call, arguments:
            case "predict", [str(question), [*options]]:
                answer.question, answer.options, answer.shown = question, tuple(map(str, options)), False
                rows = "".join(f"<li>{_inline(translated(one))}</li>" for one in answer.options)
                yield f'<h3>{_inline(translated(question))}</h3><ol class="options">{rows}</ol>'
            case "settle", [int() | str() as which, *seen] if answer.options:
                right = _right(which, answer.options)
                marks = [' class="right"' if number == right else "" for number in range(len(answer.options))]
                rows = "".join(
                    f"<li{mark}>{_inline(translated(one))}</li>"
                    for mark, one in zip(marks, answer.options, strict=True)
                )
                told = "".join(f"<p>{_inline(translated(one))}</p>" for one in seen if isinstance(one, str))
                yield f'<h3>{_inline(translated(answer.question))}</h3><ol class="options">{rows}</ol>{told}'
            case "exercise", [str(which)]:
                yield from _exercise(name, which, release)


def _right(which: int | str, options: Sequence[str]) -> int:
    if isinstance(which, int):
        return which
    return options.index(which) if which in options else "ABCDEFGH".find(which.upper())


def _exercise(lesson: str, which: str, release: str) -> Iterator[str]:
    try:
        one = only(lesson, which)
    except CheckError:
        return
    if release in one.releases:
        hints = "\n\n".join(translated(hint) for hint in one.hints)
        yield f"<h3>{html.escape(translated(one.title))}</h3>{_markdown(_lists(translated(one.task)))}{_notes(hints)}"


def _calls(text: str) -> Iterator[tuple[str, list[object]]]:
    """A cell's calls of `predict`, `settle`, `exercise` and `kubectl`, with what is in them."""
    try:
        tree = ast.parse(text.replace("\n!", "\n#").replace("\n%", "\n#"))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("predict", "settle", "exercise", "kubectl") and node.args:
                seen = [one.value for one in node.keywords if one.arg == "seen"]
                yield name, [_literal(one) for one in [*node.args, *seen]]


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _empty(code: str) -> bool:
    return all(not line.strip() or line.startswith("#") for line in code.splitlines())


def _stack(slides: Sequence[str]) -> str:
    one = "".join(f"<section>{slide}</section>" for slide in slides)
    return one if len(slides) < 2 else f"<section>{one}</section>"


def _notes(text: str) -> str:
    return f'<aside class="notes">{_markdown(text)}</aside>' if text.strip() else ""


def _highlighted(code: str, language: str) -> str:
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    made: str = highlight(code, get_lexer_by_name(language), HtmlFormatter())
    lines = code.strip().splitlines()
    return made.replace("<pre>", '<pre class="long">', 1) if len(lines) > 16 or max(map(len, lines)) > 90 else made


def _lists(text: str) -> str:
    """An exercise's words as Markdown, where a list needs an empty line before it."""
    return re.sub(r"(?<!\n)\n(?=- )", "\n\n", text, count=1)


def _markdown(text: str) -> str:
    from nbconvert.filters import markdown2html

    # The notebooks are not there; a link to one would lead nowhere.
    return _BESIDE.sub(r"\1", str(markdown2html(text)))


def _inline(text: str) -> str:
    return _markdown(text).strip().removeprefix("<p>").removesuffix("</p>")


def _own_style() -> str:
    from pygments.formatters import HtmlFormatter

    own = Path(__file__).with_name("slides.css").read_text(encoding="utf-8")
    return f"{own}\n{HtmlFormatter().get_style_defs('.highlight')}"


def page(title: str, body: str) -> str:
    """A whole page of slides."""
    styles = "".join(f'<link rel="stylesheet" href="reveal/{name}.css">' for name in ("reset", "reveal", "slides"))
    return (
        f'<!DOCTYPE html><html lang="{current()}"><head><meta charset="utf-8"><meta name="viewport" content='
        f'"width=device-width, initial-scale=1"><title>{html.escape(title)}</title>{styles}</head>'
        f"<body>{body}</body></html>\n"
    )
