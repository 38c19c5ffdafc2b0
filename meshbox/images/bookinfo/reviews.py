# SPDX-License-Identifier: Apache-2.0
"""reviews: what readers say about a book; versions 2 and 3 show the stars that ratings knows."""

from __future__ import annotations

import json
import os
from typing import Any

from labkit.ground.web import Request, Response, json_response
from meshbox.images.bookinfo.common import call, forwarded, health, is_modern, run

__all__ = ["main"]

_TEXTS = {
    "Reviewer1": "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Reviewer2": (
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."
    ),
}
_UNAVAILABLE = "Ratings service is currently unavailable"
_PATIENCE = {"black": 10.0, "red": 2.5}
"""Seconds that a version waits for ratings, by the colour of its stars."""


def _stars(product: str, headers: dict[str, str], color: str) -> dict[str, dict[str, Any]]:
    """Reviewer → what is shown as the rating."""
    try:
        patience = _PATIENCE["black"] if color == "black" else _PATIENCE["red"]
        status, body = call("ratings", f"/ratings/{product}", headers, patience)
        ratings = json.loads(body)["ratings"] if status == 200 else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"ratings: {error or type(error).__name__}", flush=True)
        ratings = None
    if not isinstance(ratings, dict):
        return {reviewer: {"error": _UNAVAILABLE} for reviewer in _TEXTS}
    return {reviewer: {"stars": ratings.get(reviewer, -1), "color": color} for reviewer in _TEXTS}


def answer(request: Request) -> Response:
    """One request."""
    if request.path == "/health":
        return health("Reviews is healthy")
    before, _, number = request.path.rpartition("/")
    if before != "/reviews":
        return json_response({"error": "not found"}, 404)
    if not (number.isascii() and number.isdigit()):
        return json_response({"error": "please provide numeric product id"}, 400)
    shown: dict[str, dict[str, Any]] = {}
    if os.environ.get("ENABLE_RATINGS") == "true":
        headers = forwarded(request, "end-user", "user-agent")
        shown = _stars(number, headers, os.environ.get("STAR_COLOR", "black"))
    reviews = []
    for reviewer, text in _TEXTS.items():
        review: dict[str, Any] = {"reviewer": reviewer, "text": text}
        if reviewer in shown:
            review["rating"] = shown[reviewer]
        reviews.append(review)
    where: dict[str, Any] = {}
    if is_modern():
        where = {"podname": os.environ.get("HOSTNAME", ""), "clustername": os.environ.get("CLUSTER_NAME", "null")}
    return json_response({"id": number, **where, "reviews": reviews})


def main() -> int:
    """The program."""
    return run(answer)
