# SPDX-License-Identifier: Apache-2.0
"""The pages of productpage, in the markup of either generation of the sample, so that the checks of both hold."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["PRODUCT", "front_page", "not_found", "product_page"]

PRODUCT: dict[str, Any] = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": (
        "Two pairs of twins, parted as babies by a shipwreck, end up in the same city without knowing of each other. "
        "Everybody meets the wrong one, on one single day: William Shakespeare's shortest play, and an early one."
    ),
}

_MOST_STARS = 5
_STAR = '<path d="M10 1.6l2.6 5.3 5.8.8-4.2 4.1 1 5.8L10 14.9l-5.2 2.7 1-5.8L1.6 7.7l5.8-.8z"/>'


def _shell(body: str, *, modern: bool, sign: str = "") -> str:
    style = "modern" if modern else "classic"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Simple Bookstore App</title>
<link rel="icon" href="static/book.svg">
<link rel="stylesheet" href="static/bookinfo.css">
</head>
<body class="{style}">
<header>
<a class="brand" href="productpage"><img src="static/book.svg" alt="">BookInfo Sample</a>
{sign}
</header>
{body}
<footer>Istio's BookInfo sample, played by the workshop's own stand-ins</footer>
</body>
</html>
"""


def _sign(user: str) -> str:
    if user:
        return f"""<nav><span class="user">{escape(user)}</span> <a class="button" href="logout">Sign out</a></nav>"""
    return """<nav><details class="sign">
<summary class="button">Sign in</summary>
<form method="post" action="login">
<label>User name <input name="username" autocomplete="username" required></label>
<label>Password <input name="passwd" type="password" autocomplete="off" placeholder="any"></label>
<button class="button" type="submit">Sign in</button>
</form>
</details></nav>"""


def _star(color: str, full: bool, modern: bool) -> str:
    name = "glyphicon-star" if full else "glyphicon-star-empty"
    if modern:
        tone = f"text-{color}-500" if full else "text-gray-300"
        return f'<svg class="{tone}" id="glyphicon {name}" viewBox="0 0 20 20" fill="currentColor">{_STAR}</svg>'
    return f'<span class="glyphicon {name}"></span>'


def _rating(rating: dict[str, Any], modern: bool) -> str:
    if error := rating.get("error"):
        return f'<p class="error{" text-red-500" if modern else ""}"><i>{escape(str(error))}</i></p>'
    color = "red" if rating.get("color") == "red" else "black"
    try:
        count = max(0, min(int(rating.get("stars", 0)), _MOST_STARS))
    except (TypeError, ValueError):
        count = 0
    stars = "\n".join(_star(color, number < count, modern) for number in range(_MOST_STARS))
    if modern:
        return f'<div class="stars" title="{count} of {_MOST_STARS}">{stars}</div>'
    return f'<font color="{color}"><!-- {count} of {_MOST_STARS} -->\n{stars}\n</font>'


def _failure(what: str, content: Any, modern: bool) -> str:
    text = content.get("error", "") if isinstance(content, dict) else ""
    tone = ' class="text-red-500"' if modern else ""
    return f"<h2{tone}>Error fetching product {what}!</h2>\n<p{tone}>{escape(str(text))}</p>"


def _details(status: int, content: Any, modern: bool) -> str:
    if status != 200 or not isinstance(content, dict):
        return f'<section class="card failed">{_failure("details", content, modern)}</section>'
    rows = (
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    )
    listed = "\n".join(
        f"<dt>{title}</dt><dd>{escape(str(content.get(key, '')))}</dd>" for title, key in rows if key in content
    )
    author = f"{escape(str(content.get('author', '')))}, {escape(str(content.get('year', '')))}"
    return f"""<section class="card">
<h2>Book Details</h2>
<p class="author">{author}</p>
<dl>
{listed}
</dl>
</section>"""


def _review(review: dict[str, Any], modern: bool) -> str:
    rating = review.get("rating")
    return f"""<blockquote>
<p>{escape(str(review.get("text", "")))}</p>
<small>{escape(str(review.get("reviewer", "")))}</small>
{_rating(rating, modern) if isinstance(rating, dict) else ""}
</blockquote>"""


def _reviews(status: int, content: Any, modern: bool) -> str:
    if status != 200 or not isinstance(content, dict):
        return f'<section class="card failed">{_failure("reviews", content, modern)}</section>'
    quotes = "\n".join(_review(review, modern) for review in content.get("reviews", []) if isinstance(review, dict))
    by = ""
    if modern and (pod := content.get("podname")):
        cluster = content.get("clustername") or "null"
        by = f'<p class="by">Reviews served by: <u>{escape(str(pod))}</u>'
        by += f" on cluster <u>{escape(str(cluster))}</u></p>" if cluster != "null" else "</p>"
    return f'<section class="card">\n<h2>Book Reviews</h2>\n{quotes}\n{by}\n</section>'


def product_page(user: str, details: tuple[int, Any], reviews: tuple[int, Any], *, modern: bool) -> str:
    """The page of the book.

    Args:
        user: Who is signed in, or empty.
        details: Status and content of what the details service answered.
        reviews: The same of the reviews service.
        modern: Whether in the markup of the sample's current generation.
    """
    body = f"""<main>
<section class="hero">
<img class="cover" src="static/cover.svg" alt="">
<div>
<h1>{PRODUCT["title"]}</h1>
<p class="summary"><b>Summary:</b> {PRODUCT["descriptionHtml"]}</p>
</div>
</section>
<div class="columns">
{_details(*details, modern)}
{_reviews(*reviews, modern)}
</div>
</main>"""
    return _shell(body, modern=modern, sign=_sign(user))


def front_page(*, modern: bool) -> str:
    """What / shows: which services there are, and where to go."""
    rows = "".join(
        f"<tr><td>{name}</td><td><code>{where}</code></td><td>{what}</td></tr>"
        for name, where, what in (
            ("details", "http://details:9080", "facts about the book"),
            ("reviews", "http://reviews:9080", "what readers say, in three versions"),
            ("ratings", "http://ratings:9080", "the stars, asked by reviews"),
        )
    )
    body = f"""<main>
<section class="card front">
<h1>A small bookstore, in four services</h1>
<p>This one, productpage, calls two others; one of those calls the fourth.</p>
<table><tr><th>service</th><th>endpoint</th><th>gives</th></tr>{rows}</table>
<p><a class="button" href="productpage?u=normal">As a normal user</a>
<a class="button" href="productpage?u=test">As a test user</a></p>
</section>
</main>"""
    return _shell(body, modern=modern)


def not_found() -> str:
    """The page where there is none."""
    text = "<h2>Not found</h2><p>There is no such page in the bookstore.</p>"
    body = f'<main><section class="card failed">{text}</section></main>'
    return _shell(body, modern=True)
