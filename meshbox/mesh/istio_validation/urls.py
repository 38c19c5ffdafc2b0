# SPDX-License-Identifier: Apache-2.0
"""What Go's parser of URLs finds wrong with a text."""

from __future__ import annotations

import re

from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["scheme"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def scheme(url: str, *, request: bool = False) -> tuple[str, str]:
    """The scheme of a URL, in lower case, and why it is no URL ("" where it is one).

    Args:
        url: The text.
        request: Whether it must be absolute, or a path, as in the line of a request.
    """
    problem = _problem(url, request=request)
    found = _SCHEME.match(url)
    return (found[0][:-1].lower() if found else "", f"parse {quoted(url)}: {problem}" if problem else "")


def _problem(url: str, *, request: bool) -> str:
    if _CONTROL.search(url):
        return "net/url: invalid control character in URL"
    if not url and request:
        return "empty url"
    found = _SCHEME.match(url)
    if url.startswith(":"):
        return "missing protocol scheme"
    rest = url[found.end() :] if found else url
    if not request:
        rest = rest.partition("#")[0]
    rest = rest.partition("?")[0]
    if not rest.startswith("/"):
        if found and rest:
            return ""
        if request:
            return "invalid URI for request"
        if ":" in rest.partition("/")[0]:
            return "first path segment in URL cannot contain colon"
    escape = _ESCAPE.search(rest)
    if escape is not None:
        return f"invalid URL escape {quoted(rest[escape.start() : escape.start() + 3])}"
    return _authority_problem(rest[2:].partition("/")[0]) if rest.startswith("//") else ""


def _authority_problem(authority: str) -> str:
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        closed = host.rpartition("]")
        if not closed[1]:
            return "missing ']' in host"
        port = closed[2]
    else:
        name, colon, number = host.rpartition(":")
        port = f"{colon}{number}" if colon else ""
        odd = re.search(r'[ "<>\\^`{|}]', name if colon else host)
        if odd is not None:
            return f"invalid character {quoted(odd[0])} in host name"
    return f"invalid port {quoted(port)} after host" if port and not re.fullmatch(":[0-9]*", port) else ""
