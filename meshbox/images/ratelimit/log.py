# SPDX-License-Identifier: Apache-2.0
"""Lines in the two forms that the genuine program writes, of the levels that it is asked for."""

from __future__ import annotations

import json
import re
import sys
import time
from functools import partialmethod

__all__ = ["LEVELS", "Log"]

LEVELS = ("panic", "fatal", "error", "warning", "info", "debug", "trace")
_BARE = re.compile(r"[a-zA-Z0-9._/@^+-]+")


class Log:
    """A log.

    Args:
        level: The last of `LEVELS` that is written; "warn" is another word for "warning".
        form: "json", or anything else for text.

    Raises:
        ValueError: there is no such level; the message is the genuine program's.
    """

    def __init__(self, level: str = "warning", form: str = "text") -> None:
        known = "warning" if level.lower() == "warn" else level.lower()
        if known not in LEVELS:
            raise ValueError(f'not a valid logrus Level: "{level}"')
        self._levels = LEVELS[: LEVELS.index(known) + 1]
        self._json = form.lower() == "json"

    def __call__(self, level: str, words: str) -> None:
        """Write `words`, if their level is asked for."""
        if level not in self._levels:
            return
        now = time.time()
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        if self._json:
            stamp = f"{second}.{int(now % 1 * 1e9):09d}Z"
            line = json.dumps({"@message": words, "@timestamp": stamp, "level": level}, separators=(",", ":"))
        else:
            said = words if _BARE.fullmatch(words) else json.dumps(words, ensure_ascii=False)
            line = f'time="{second}Z" level={level} msg={said}'
        print(line, file=sys.stderr, flush=True)

    fatal = partialmethod(__call__, "fatal")
    error = partialmethod(__call__, "error")
    warning = partialmethod(__call__, "warning")
    info = partialmethod(__call__, "info")
    debug = partialmethod(__call__, "debug")
