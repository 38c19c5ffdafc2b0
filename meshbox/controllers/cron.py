# SPDX-License-Identifier: Apache-2.0
"""A CronJob's schedule: croniter's, held to what Kubernetes (robfig/cron) takes it to mean.

Where the two differ: Kubernetes has five fields and no other letters than names of months and days; a range does not
run backwards; `?` is `*` everywhere; `*` among others, and `*/1`, leave it to the other field which days are meant; a
range of one value is that value; and a time that a clock skips in spring does not come that day. 7 is Sunday here, as
in most crons.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from croniter import croniter

__all__ = ["Schedule"]

_MOST_YEARS = 5
_PART = re.compile(r"(?:\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/0*[1-9][0-9]*)?", re.ASCII)
_ANY_DAY = re.compile(r"\*(?:/0*1)?")
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


class Schedule:
    """When a CronJob runs.

    Args:
        expression: The schedule as croniter reads it.
        either_day: Whether a day of the month or of the week suffices; else both must be meant.
    """

    def __init__(self, expression: str, either_day: bool) -> None:
        self._expression = expression
        self._either_day = either_day

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` says: five fields, or a macro such as "@hourly".

        Raises:
            ValueError: `text` is no schedule.
        """
        # A twentieth of a second or more to load: only where there is a CronJob.
        from croniter import croniter

        if text.strip() in _MACROS:
            return cls(text.strip(), True)
        fields = text.lower().replace("?", "*").split()
        if len(fields) != 5:
            raise ValueError(f"expected exactly 5 fields, found {len(fields)}: {text.split()}")
        for at, names in enumerate(croniter.ALPHACONV[:5]):
            known = {name: number for name, number in names.items() if len(name) == 3}
            fields[at] = ",".join(_checked(part, known) for part in fields[at].split(","))
        croniter.expand(" ".join(fields))
        marked = any(_ANY_DAY.fullmatch(part) for field in (fields[2], fields[4]) for part in field.split(","))
        return cls(" ".join(fields), not marked)

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in its time zone; None where there is none within five years."""
        return self._next(moment, forward=True)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """The last time after `since` and not after `until`; None where there is none."""
        # Seconds are compared: of two times in one zone Python takes an hour that comes twice for the same.
        first, last = since.timestamp(), until.timestamp()
        found = self._next(datetime.fromtimestamp(last + 60, until.tzinfo), forward=False)
        while found is not None and found.timestamp() > last:
            found = self._next(found, forward=False)
        return found if found is not None and found.timestamp() > first else None

    def _next(self, moment: datetime, *, forward: bool) -> datetime | None:
        from croniter import CroniterBadDateError, croniter

        times = croniter(self._expression, moment, day_or=self._either_day, max_years_between_matches=_MOST_YEARS)
        try:
            while True:
                found: datetime = (times.get_next if forward else times.get_prev)(datetime)
                if _is_meant(times, found):
                    return found
        except CroniterBadDateError:
            return None


def _is_meant(times: croniter, moment: datetime) -> bool:
    """Whether a time is one of the schedule's, and not what croniter takes in place of one that the clock skips."""
    minutes, hours = times.expanded[:2]
    return bool({"*", moment.minute} & set(minutes) and {"*", moment.hour} & set(hours))


def _checked(part: str, names: dict[str, int]) -> str:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"failed to parse {part!r}")
    ends = [_number(text, names) for text in match.groups() if text is not None]
    if ends != sorted(ends):
        raise ValueError(f"beginning of range ({ends[0]}) beyond end of range ({ends[1]}): {part}")
    # croniter takes a range of one value for the whole circle.
    return str(ends[0]) if len(ends) == 2 and ends[0] == ends[1] else part


def _number(text: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isdigit():
        raise ValueError(f"failed to parse int from {text}")
    return int(text)
