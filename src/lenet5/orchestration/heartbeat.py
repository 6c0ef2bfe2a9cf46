"""When a Prefect worker counts as alive. No Prefect is imported here, so ``lenet5 status`` stays quick."""

from datetime import datetime, timedelta

_MISSED = 3
"""A worker that is killed cannot sign off: it is dead when it has missed this many heartbeats."""
_DEFAULT_INTERVAL_SECONDS = 30


def is_recent(last: datetime | None, interval_seconds: float | None, now: datetime) -> bool:
    """Return whether a worker's last heartbeat is recent enough.

    Args:
        last: the time of the heartbeat, with a time zone; None when there was none.
        interval_seconds: the interval that the worker reports; None when it reports none.
        now: the present time, with a time zone.
    """
    if last is None:
        return False
    return now - last < timedelta(seconds=_MISSED * (interval_seconds or _DEFAULT_INTERVAL_SECONDS))
