# SPDX-License-Identifier: Apache-2.0
"""Text panels: Markdown and HTML, with nothing in it that runs or that is fetched from elsewhere."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from grafana_figures.model import Json
from grafana_figures.theme import Theme, layout

__all__ = ["clean", "figure", "markdown", "plain"]

_TAGS = frozenset(
    {
        "a",
        "b",
        "blockquote",
        "br",
        "center",
        "code",
        "div",
        "em",
        "hr",
        "i",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "small",
        "span",
    }
    | {"strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"}
    | {f"h{level}" for level in range(1, 7)}
)
_EMPTY = {"br", "hr"}
_WITH_CONTENT = {"script", "style", "iframe", "object", "embed", "svg", "math", "noscript", "template", "textarea"}
_STYLES = {"text-align", "font-size", "font-weight", "font-style", "color", "text-decoration"}
_VALUE = re.compile(r"[\w #.,%()-]+")


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._open: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _WITH_CONTENT:
            self._inside += 1
        if self._inside or tag not in _TAGS:
            return
        kept = "".join(self._attribute(tag, name, value or "") for name, value in attrs)
        self.parts.append(f"<{tag}{kept}>")
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _WITH_CONTENT:
            self._inside = max(0, self._inside - 1)
        elif not self._inside and tag in self._open:
            while self._open:
                last = self._open.pop()
                self.parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.parts.append(escape(data, quote=False))

    def close(self) -> None:
        super().close()
        self.parts += [f"</{tag}>" for tag in reversed(self._open)]

    @staticmethod
    def _attribute(tag: str, name: str, value: str) -> str:
        if name == "href" and tag == "a" and urlsplit(value.strip()).scheme in ("http", "https", "mailto", ""):
            return f' href="{escape(value.strip())}" target="_blank" rel="noopener noreferrer"'
        if name == "style":
            pairs = (part.partition(":") for part in value.split(";"))
            kept = [f"{key.strip()}:{text.strip()}" for key, _, text in pairs if _harmless(key.strip(), text.strip())]
            return f' style="{escape(";".join(kept))}"' if kept else ""
        if name == "class" and re.fullmatch(r"[\w -]+", value):
            return f' class="{value}"'
        return ""


def _harmless(key: str, value: str) -> bool:
    return key in _STYLES and _VALUE.fullmatch(value) is not None and "url" not in value.lower()


def clean(text: str) -> str:
    """HTML with only what a text needs: no scripts, no pictures, no forms, no styles that could cover the page."""
    cleaner = _Cleaner()
    cleaner.feed(text)
    cleaner.close()
    return "".join(cleaner.parts)


def markdown(text: str) -> str:
    """The HTML of the Markdown that dashboards use: headings, lists, emphasis, code, links, paragraphs."""
    blocks: list[str] = []
    lines: list[str] = []

    def end() -> None:
        if lines:
            blocks.append(_block(lines))
            lines.clear()

    fence: list[str] | None = None
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith("```"):
            end()
            if fence is None:
                fence = []
            else:
                blocks.append(f"<pre>{escape(chr(10).join(fence))}</pre>")
                fence = None
        elif fence is not None:
            fence.append(line)
        elif not line.strip():
            end()
        else:
            lines.append(line)
    return clean("\n".join(blocks))


def _block(lines: list[str]) -> str:
    heading = re.match(r"(#{1,6})\s*(.*?)\s*#*$", lines[0])
    if heading:
        level = len(heading[1])
        rest = f"\n{_block(lines[1:])}" if lines[1:] else ""
        return f"<h{level}>{_inline(heading[2])}</h{level}>{rest}"
    for mark, tag in ((r"\s*[-*+]\s+", "ul"), (r"\s*\d+[.)]\s+", "ol")):
        if re.match(mark, lines[0]):
            items: list[str] = []
            for line in lines:
                if re.match(mark, line):
                    items.append(re.sub(mark, "", line, count=1))
                else:
                    items[-1] += f" {line.strip()}"
            return f"<{tag}>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</{tag}>"
    joined = " ".join(line.strip() for line in lines)
    return joined if joined.startswith("<") else f"<p>{_inline(joined)}</p>"


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", lambda match: f"<code>{escape(match[1])}</code>", text)
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", lambda m: f'<a href="{escape(m[2])}">{m[1]}</a>', text)
    text = re.sub(r"\*\*(.+?)\*\*|__(.+?)__", lambda m: f"<strong>{m[1] or m[2]}</strong>", text)
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", text)


def plain(html: str) -> str:
    """The text of HTML, for where there is no page."""
    import html as entities

    lines = re.sub(r"<(?:br|/p|/div|/h\d|/li|/tr)[^>]*>", "\n", html)
    text = entities.unescape(re.sub(r"<[^>]+>", "", lines))
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def figure(title: str, html: str, theme: Theme) -> Json:
    """The text as a figure: the words without their form."""
    lines = [escape(line) for paragraph in plain(html).splitlines() for line in _wrapped(paragraph)]
    frame = layout(title, theme, height=60 + 20 * max(1, len(lines)))
    note = {"text": "<br>".join(lines), "x": 0, "y": 1, "xref": "paper", "yref": "paper", "align": "left"}
    frame["annotations"] = [note | {"showarrow": False, "xanchor": "left", "yanchor": "top"}]
    frame |= {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
    return {"data": [], "layout": frame}


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 110) or [""]
