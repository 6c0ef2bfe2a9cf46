"""Messages of this package: standard ``logging`` to standard error, as text or as JSON lines.

Messages of every package in this process are masked: they hold no credentials of URLs and no control
characters.
"""

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from lenet5.core.text import shown
from lenet5.system.terminal import print_message

Format = Literal["text", "json"]
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_STYLES = {"ERROR": "bold red", "WARNING": "yellow"}


def configure(*, verbose: int = 0, log_format: Format = "text", also: Sequence[str] = ()) -> None:
    """Send the messages of this package to standard error. Those of other packages go where they went before.

    Args:
        verbose: 0 shows errors and warnings, 1 also progress, 2 also details.
        log_format: ``text`` for people; ``json`` writes one object per line, for log collectors, with the
            keys ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message`` and, with a stack trace,
            ``exception``.
        also: loggers of other packages whose warnings and errors are shown in the same way.
    """
    handler = _json_handler() if log_format == "json" else _TextHandler()
    logging.setLogRecordFactory(_MaskedRecord)
    warnings.formatwarning = _masked_warning
    logger = logging.getLogger("lenet5")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    for name in also:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def in_force() -> tuple[int, Format]:
    """Return the arguments of the last :func:`configure`, for a child process; the defaults without one."""
    logger = logging.getLogger("lenet5")
    is_text = all(isinstance(handler, _TextHandler) for handler in logger.handlers)
    verbose = _LEVELS.index(logger.level) if logger.level in _LEVELS else 0
    return verbose, "text" if is_text else "json"


class _MaskedRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802 (the name in the standard library)
        return shown(super().getMessage())


_format_warning = warnings.formatwarning


def _masked_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return shown(_format_warning(message, category, filename, lineno, line))


class _TextHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        style = _STYLES.get(record.levelname, "dim")
        print_message(record.levelname.lower(), self.format(record), style=style)


def _json_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    return handler


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = shown(self.formatException(record.exc_info))
        return json.dumps(entry)
