"""Refusals of the HTTP service: a status, a code for programs, and a message for people."""

import reprlib
from typing import Any

from lenet5.core.errors import Lenet5Error


class RequestError(Exception):
    """A request that gets no prediction. Its message never repeats more than a few words of the request.

    Args:
        status: the HTTP status.
        code: a short name of the reason, for programs; it never changes.
        message: what happened, as one sentence.
        expected: what the service needs.
        found: what the request holds instead.
        fix: what the client can do.
        headers: additional headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        expected: str | None = None,
        found: object = None,
        fix: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        details = {
            "expected": expected,
            "found": None if found is None else str(found)[:_LONGEST],
            "fix": fix,
        }
        self.details = {name: text for name, text in details.items() if text is not None}

    def as_json(self) -> dict[str, Any]:
        """Return the object under the key ``error`` of an answer."""
        return {"code": self.code, "message": self.message, **self.details}

    def in_one_line(self) -> str:
        """Return the message with its details, for protocols whose errors are one string."""
        return "; ".join([self.message, *(f"{name}: {text}" for name, text in self.details.items())])


_LONGEST = 200
"""Characters of what a request holds."""
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _LONGEST


def brief(value: object) -> str:
    """Return a JSON value for a message, however long it is and however deep its lists are."""
    return _BRIEF.repr(value)


def unprocessable(message: str, expected: str, found: object, fix: str | None = None) -> RequestError:
    """Return the error for content that is well-formed and cannot be an image."""
    return RequestError(422, "invalid_image", message, expected=expected, found=found, fix=fix)


def of_data_error(error: Lenet5Error) -> RequestError:
    """Return the refusal of a picture that :mod:`lenet5.serving.picture` rejects."""
    parts = error.as_dict()
    expected = parts["expected"]
    return RequestError(
        422,
        "invalid_picture",
        str(parts["what"]),
        expected=None if expected is None else str(expected),
        found=parts["found"],
    )
