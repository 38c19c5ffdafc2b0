# SPDX-License-Identifier: Apache-2.0
"""details: facts about a book."""

from __future__ import annotations

import os

from labkit.ground.web import Request, Response, json_response
from meshbox.images.bookinfo.common import health, run

__all__ = ["main"]

_BOOK = {
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "PublisherA",
    "language": "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
}


def answer(request: Request) -> Response:
    """One request."""
    if request.path == "/health":
        return health("Details is healthy")
    before, _, number = request.path.rpartition("/")
    if before != "/details":
        return json_response({"error": "not found"}, 404)
    if not (number.isascii() and number.isdigit()):
        return json_response({"error": "please provide numeric product id"}, 400)
    if os.environ.get("ENABLE_EXTERNAL_BOOK_SERVICE") == "true":
        # A sandbox never leaves the machine.
        return json_response({"error": "the external book service cannot be reached from the sandbox"}, 500)
    return json_response({"id": int(number), **_BOOK})


def main() -> int:
    """The program."""
    return run(answer)
