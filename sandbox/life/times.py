"""--since and --until, as moments.  (cold)"""

import datetime

from sandbox.image.describe import point_in_time

_DAY = datetime.timedelta(days=1)


def since(text: str, now: datetime.datetime) -> datetime.datetime:
    """A duration before `now` (`10m`), RFC 3339, or seconds since 1970; SandboxError "read time"."""
    return point_in_time(text, now)


def until(text: str, now: datetime.datetime) -> datetime.datetime:
    """As `since`, but a duration is one from `now` on, and `-10m` is one before: podman's reading of it."""
    if text[:1] == "-":
        return point_in_time(text[1:], now)
    found = point_in_time(text, now)
    if found == point_in_time(text, now + _DAY) and found.year > 1:  # else it depends on `now`: a duration
        return found
    try:
        return now + (now - found)
    except OverflowError:
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)
