"""Where the data comes from: a folder or an fsspec URL, read as a stream, again if the network fails."""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import aiohttp
from fsspec.core import url_to_fs
from rich.progress import Progress, TaskID
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from lenet5.core.errors import DataError, UsageError
from lenet5.stages.ingest.source_errors import AbsentError, Interrupted, meaning
from lenet5.stages.ingest.unzip import too_large

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_DRIVERS = {"s3": "pip install -e '.[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}
_WEB = ("http://", "https://")
_WEB_OPTIONS = {
    "client_kwargs": {
        # a total would cut off a slow line; a server that falls silent is what has to be noticed
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
        "headers": {"Accept-Encoding": "identity"},  # so that Content-Length counts what arrives
        "trust_env": True,  # proxies
    }
}


class Source:
    """A place that holds files by name, or one ``.npz`` file.

    Raises:
        UsageError: fsspec does not know the protocol of ``url``, or lacks the driver for it.
    """

    def __init__(self, url: str, root: Path, *, limit: int, attempts: int) -> None:
        """``url`` may be a path, relative to ``root``; ``limit`` is in bytes, ``attempts`` a file."""
        self.url = url if "://" in url else str(root / Path(url).expanduser())
        end = PurePosixPath(url.partition("?")[0])
        self.archive = end.name if end.suffix == ".npz" else None
        self._limit = limit
        self._attempts = attempts
        self._web = url.startswith(_WEB)
        try:
            self._fs, self._path = url_to_fs(self.url, **(_WEB_OPTIONS if self._web else {}))
        except ImportError as error:
            protocol = url.partition("://")[0]
            raise UsageError(
                f"ingest.source {url} needs a driver that is not installed.",
                found=error,
                fix=_DRIVERS.get(protocol, "install the package that is named here"),
            ) from None
        except OSError as error:  # some drivers connect at once
            raise meaning(error, url) from error
        except ValueError as error:
            raise UsageError(
                f"ingest.source {url} cannot be understood.",
                expected="a folder, or a URL that begins with https://, s3://, gs:// or the like",
                found=error,
                fix="correct ingest.source in params.yaml",
            ) from None

    def fetch(self, names: Sequence[str], into: BinaryIO, progress: Progress) -> str:
        """Make ``into`` a copy of the first of ``names`` that is there, and return that name.

        Raises:
            DataError: none of them is there, or the file is larger than the limit.
            Unavailable: the source cannot be reached, or broke off every time.
        """
        reasons = []
        for name in names:
            try:
                self._patiently(name)(self._copy, name, into, progress)
            except AbsentError as error:
                reasons.append(f"{name}: {error}")
            else:
                return name
        raise DataError(
            f"A file is missing from {self.url}.",
            expected=" or ".join(names),
            found="; ".join(reasons),
            fix="check ingest.source in params.yaml (`dvc pull` or git may have to fetch it first)",
        )

    def _patiently(self, name: str) -> Retrying:
        def tell(state: RetryCallState) -> None:
            seconds = state.next_action.sleep if state.next_action else 0
            log.warning(
                "%s: attempt %d of %d failed, next in %.1f s",
                name,
                state.attempt_number,
                self._attempts,
                seconds,
            )

        return Retrying(
            retry=retry_if_exception_type(Interrupted),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(max=30),
            before_sleep=tell,
            reraise=True,
        )

    def _copy(self, name: str, into: BinaryIO, progress: Progress) -> None:
        into.seek(0)
        into.truncate()  # an earlier attempt may have left its beginning
        task = progress.add_task(name, total=None)
        try:
            with closing(self._chunks(name, progress, task)) as chunks:
                for chunk in chunks:
                    if into.tell() + len(chunk) > self._limit:
                        raise too_large(name, self._limit)
                    into.write(chunk)
                    progress.advance(task, len(chunk))
        finally:
            progress.remove_task(task)
        into.seek(0)

    def _chunks(self, name: str, progress: Progress, task: TaskID) -> Generator[bytes, None, None]:
        """One file's bytes. Apart from writing them, so that a full disk is not taken for the network."""
        path = self._path if self.archive else f"{self._path.rstrip('/')}/{name}"
        # Asked for a size, fsspec's HTTP calls every failure "not found"; given one, it does not ask.
        how = {"block_size": 0, "size": 1} if self._web else {}
        try:
            with self._fs.open(path, "rb", **how) as remote:
                progress.update(task, total=_size(remote))
                while chunk := remote.read(_CHUNK):
                    yield chunk
        except Exception as error:
            raise meaning(error, f"{name} from {self.url}") from error


def _size(remote: Any) -> int | None:
    """Bytes to come, where the source says so; an HTTP stream keeps that in its response."""
    response = getattr(remote, "r", None)
    size: int | None = response.content_length if response is not None else getattr(remote, "size", None)
    return size
