"""Identifiers of requests: unique, ordered by time, and only this service can make one."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lenet5.serving.request_id import LENGTH, RequestIds


def test_identifiers_are_unique_and_known(tmp_path: Path) -> None:
    ids = RequestIds.of_folder(tmp_path)
    given_ids = [ids.new() for _ in range(1000)]
    assert len(set(given_ids)) == 1000
    assert all(ids.is_ours(each) for each in given_ids)
    assert given_ids[0][:11] <= given_ids[-1][:11]


def test_every_process_with_the_folder_knows_them_and_no_other(tmp_path: Path) -> None:
    identifier = RequestIds.of_folder(tmp_path / "one").new()
    assert RequestIds.of_folder(tmp_path / "one").is_ours(identifier)
    assert not RequestIds.of_folder(tmp_path / "two").is_ours(identifier)
    assert (tmp_path / "one" / "request-ids.secret").stat().st_mode & 0o77 == 0


@given(st.text(max_size=LENGTH) | st.binary(max_size=30).map(bytes.hex))
def test_invented_identifiers_are_unknown(text: str) -> None:
    assert not RequestIds(b"secret").is_ours(text)


@given(st.integers(0, LENGTH - 1))
def test_changed_identifiers_are_unknown(at: int) -> None:
    ids = RequestIds(b"secret")
    identifier = ids.new()
    other = "0" if identifier[at] != "0" else "1"
    assert not ids.is_ours(identifier[:at] + other + identifier[at + 1 :])
