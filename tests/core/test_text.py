"""Text that is shown holds no credentials and no control characters."""

import pytest

from lenet5.core.errors import UsageError
from lenet5.core.text import mask_urls, printable, shown


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hidden@one.example/x",
        "https://hidden@one.example/x",
        "postgresql+psycopg://me:hidden@db.example:5432/mlflow",
        "postgresql://me:hid/den@db.example/mlflow",
        "https://me:hid%40den@one.example",  # pragma: allowlist secret
        "https://one.example/x?token=hidden",
        "https://one.example/x?a=1&X-Amz-Signature=hidden&b=2",
        "https://one.example/x?api_key=hidden",
        "https://one.example/x?AWSAccessKeyId=hidden&Expires=1",
        "postgresql://db.example/mlflow?user=me&password=hidden",
    ],
)
def test_credentials_of_a_url_are_masked_in_any_text(url: str) -> None:
    for text in (url, f"cannot reach {url!r}: refused", f'{{"url": "{url}"}}'):
        assert "hidden" not in mask_urls(text)
        assert "den" not in mask_urls(text)
        assert ".example" in mask_urls(text)
    assert "hid" not in str(UsageError("It failed.", expected=url, found=url, fix=url))


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/api",
        "http://one.example:5000/a@b",
        "s3://bucket/key",
        "sqlite:////tmp/mlflow.db",
        "file:///home/me@work/data",
        "https://one.example/x?page=2&sort=size",
        "me@one.example wrote a=b",
    ],
)
def test_other_text_is_not_changed(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    "character", ["\x1b", "\x07", "\x08", "\r", "\x00", "\x7f", "\x9b", "\x9d", "\u202e"]
)
def test_control_characters_become_visible(character: str) -> None:
    text = printable(f"before{character}]0;title\tafter\nnext é→")
    assert character not in text
    assert text.startswith("before\\")
    assert text.endswith("]0;title\tafter\nnext é→")
