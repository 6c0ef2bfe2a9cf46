"""Render templates of HTML pages: text is escaped, and a name that is missing is an error."""

from collections.abc import Sequence
from pathlib import Path


def render(template: str, folders: Sequence[Path], **values: object) -> str:
    """Return the page of a template.

    A template can use the filters ``percent`` (0.1234 → 12.34 %), ``number`` (1,234 or 0.1234) and ``signed``
    (+0.1234).

    Args:
        template: the name of its file.
        folders: where it lies, and what it includes or extends.
        values: what it shows, by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # most commands render no page

    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "signed": _signed}
    return environment.get_template(template).render(**values)


def _percent(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}%}".replace("%", " %")


def _number(value: float | int, digits: int = 4) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
