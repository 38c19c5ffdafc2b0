# SPDX-License-Identifier: Apache-2.0
"""ratings: how many stars each reviewer gave."""

from __future__ import annotations

import os
import random
import time

from labkit.ground import reading
from labkit.ground.web import Request, Response, json_response
from meshbox.images.bookinfo.common import health, run

__all__ = ["main"]

_FIRST = {"Reviewer1": 5, "Reviewer2": 4}
_DELAY = 7.0
_PATIENCE = 5.0
_UNAVAILABLE_PERIOD = 60.0
_UNHEALTHY_PERIOD = 900.0


class Ratings:
    """The service.

    Args:
        version: "v1"; "v2" keeps its ratings in a database; the others have faults built in.
        began: When it started, in seconds; the toggling faults count from then.
    """

    def __init__(self, version: str, began: float | None = None) -> None:
        self._version = version
        self._began = time.monotonic() if began is None else began
        self._given: dict[int, dict[str, int]] = {}

    def _is_off(self, period: float) -> bool:
        """Whether a fault that comes and goes every `period` seconds is on."""
        return int((time.monotonic() - self._began) / period) % 2 == 1

    def answer(self, request: Request) -> Response:
        """One request."""
        if request.path == "/health":
            if self._version == "v-unhealthy" and self._is_off(_UNHEALTHY_PERIOD):
                return json_response({"status": "Ratings is not healthy"}, 500)
            return health("Ratings is healthy")
        before, _, number = request.path.rpartition("/")
        if before != "/ratings" or request.method not in ("GET", "POST"):
            return json_response({"error": "not found"}, 404)
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            return json_response({"error": "please provide numeric product ID"}, 400)
        if request.method == "POST":
            return self._store(int(number), request.body)
        return self._give(int(number))

    def _store(self, product: int, body: bytes) -> Response:
        if self._version.startswith("v2"):
            return json_response({"error": "Post not implemented for database backed ratings"}, 501)
        try:
            given = reading.json_value(body)
            if not isinstance(given, dict):
                raise ValueError("not an object")
        except ValueError:
            return json_response({"error": "please provide valid ratings JSON"}, 400)
        self._given[product] = given
        return json_response({"id": product, "ratings": given})

    def _give(self, product: int) -> Response:
        if self._version.startswith("v2"):
            return self._from_database(product)
        chance = random.random()
        if (self._version == "v-faulty" and chance < 0.5) or (
            self._version == "v-unavailable" and self._is_off(_UNAVAILABLE_PERIOD)
        ):
            return json_response({"error": "Service unavailable"}, 503)
        if self._version == "v-delayed" and chance < 0.5:
            time.sleep(_DELAY)
        return json_response({"id": product, "ratings": self._given.get(product, _FIRST)})

    def _from_database(self, product: int) -> Response:
        # Only whoever has a database loads what speaks with it.
        from meshbox.images.databases import mongodb, mysqldb

        environment = os.environ
        try:
            if environment.get("DB_TYPE") == "mysql":
                where = environment.get("MYSQL_DB_HOST", "mysqldb"), int(environment.get("MYSQL_DB_PORT", mysqldb.PORT))
                who = environment.get("MYSQL_DB_USER", "root"), environment.get("MYSQL_DB_PASSWORD", "")
                rows = mysqldb.select(*where, *who, "SELECT Rating FROM ratings", _PATIENCE)
                stars = [int(row[0]) for row in rows]
            else:
                url = environment.get("MONGO_DB_URL", f"mongodb://mongodb:{mongodb.PORT}/test")
                stars = [int(found["rating"]) for found in mongodb.find(url, "ratings", _PATIENCE)]
        except (OSError, ValueError, KeyError) as error:
            print(f"no ratings from the database: {error}", flush=True)
            return json_response({"error": "could not connect to ratings database"}, 500)
        first = dict(zip(_FIRST, [*stars, *(0 for _ in _FIRST)], strict=False))
        return json_response({"id": product, "ratings": first})


def main() -> int:
    """The program."""
    return run(Ratings(os.environ.get("SERVICE_VERSION", "v1")).answer)
