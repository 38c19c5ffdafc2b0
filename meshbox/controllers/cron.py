"""The five fields of a CronJob's schedule, and the times they name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from labkit.ground.numbers import whole

__all__ = ["Schedule"]

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FARTHEST = timedelta(days=5 * 366)
_WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=31), _FARTHEST)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if (number := whole(text)) is None:
        raise ValueError(f"failed to parse int from {text}")
    return number


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, names)
            end = _number(last, names) if dash else (high if step else start)
        if not low <= start <= end <= high or (step and int(step) < 1):
            raise ValueError(f"{part!r} is not within {low} to {high}")
        found.update(range(start, end + 1, int(step) if step else 1))
    return frozenset(found)


@dataclass(frozen=True)
class Schedule:
    """When a CronJob runs."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Whether the day of the month or of the week is "*": then both must match, else one suffices."""

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` says: five fields, or a macro such as "@hourly".

        Raises:
            ValueError: `text` is no schedule.
        """
        fields = _MACROS.get(text.strip(), text).split()
        if len(fields) != 5:
            raise ValueError(f"expected exactly 5 fields, found {len(fields)}: {fields}")
        weekdays = _field(fields[4], 0, 7, _DAYS)
        return cls(
            _field(fields[0], 0, 59, {}),
            _field(fields[1], 0, 23, {}),
            _field(fields[2], 1, 31, {}),
            _field(fields[3], 1, 12, _MONTHS),
            frozenset(day % 7 for day in weekdays),
            fields[2][0] in "*?" or fields[4][0] in "*?",
        )

    def _on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month and in_week if self.any_day else in_month or in_week

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in its time zone; None where there is none within five years."""
        time = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = moment + _FARTHEST
        while time <= last:
            if not self._on(time):
                time = time.replace(hour=0, minute=0) + timedelta(days=1)
            elif time.hour not in self.hours:
                time = time.replace(minute=0) + timedelta(hours=1)
            elif time.minute not in self.minutes:
                time += timedelta(minutes=1)
            else:
                return time
        return None

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """The last time after `since` and not after `until`; None where there is none."""
        # Wider and wider looks back: a schedule of every minute is not followed through a whole year.
        for window in _WINDOWS:
            start = max(since, until - window)
            found, moment = None, self.after(start)
            while moment is not None and moment <= until:
                found, moment = moment, self.after(moment)
            if found is not None or start == since:
                return found
        return None
