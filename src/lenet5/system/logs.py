"""Diagnostic messages: standard ``logging`` on standard error, for people or as JSON lines."""

import json
import logging
import sys
from typing import Literal

Format = Literal["text", "json"]


def configure(*, verbose: int = 0, log_format: Format = "text") -> None:
    """Send the messages of this package to standard error.

    Args:
        verbose: 0 shows warnings, 1 also what is done, 2 also details.
        log_format: ``text`` for people; ``json`` writes one object for each line, for log collectors.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logger = logging.getLogger("lenet5")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonFormatter(logging.Formatter):
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)
