"""Make a text fit to be shown or stored: no credentials of URLs, no control characters."""

import difflib
import hashlib
import re
from collections.abc import Iterable

MASK = "********"
# up to the last @ before the path; a user name without a password counts, because it can be a token
_LOGIN = re.compile(r"(?<=://)[^\s/'\"]+@")
# SQLAlchemy accepts a password with slashes; digits and a slash after the colon are a port and a path
_LOGIN_WITH_SLASHES = re.compile(r"(?<=://)[^\s/:@'\"]*:(?!\d+/)[^\s@'\"]*@")
_SECRET_IN_QUERY = re.compile(
    r"(?<=[?&;])([\w.-]*(?:passw|pwd|token|secret|sig|credential|api_?key|access_?key|auth)[\w.-]*=)[^&;#\s'\"]+",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but tab and line feed; 80 to 9f begin sequences as ESC does
    # these change the order of the text around them
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def mask_urls(text: str, replacement: str = f"{MASK}@") -> str:
    """Replace the credentials in each URL of a text: log-ins, and values of a query such as ``token=``.

    Args:
        text: any text.
        replacement: of the log-in with its ``@``; an empty one gives a link that can be opened.
    """
    if "://" not in text and "=" not in text:
        return text
    without_login = _LOGIN.sub(replacement, _LOGIN_WITH_SLASHES.sub(replacement, text))
    return _SECRET_IN_QUERY.sub(rf"\1{MASK}", without_login)


def fitted(text: str, longest: int) -> str:
    """Return a text, or a too long one as its beginning and its digest: equal texts stay equal."""
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[: longest - 120]}… ({len(text):,} characters, SHA-256 {digest})"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return the question whether a user meant the name that is most like a word; "" if none is like it.

    Args:
        word: what a user wrote.
        names: the words that exist. Upper and lower case do not count.
    """
    by_lower_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[near[0]]}?" if near else ""


def printable(text: str) -> str:
    r"""Replace each control character by its escape sequence in Python, such as ``\x1b``.

    Text of a registry, a server or a file name can hold sequences that rename, clear or rewrite a terminal.
    Line feeds and tabs stay.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shown(text: object) -> str:
    """Return a text as a person or a log may see it: credentials masked, control characters escaped."""
    return printable(mask_urls(str(text)))
