"""Exceptions for failures that the user can act on, each with the exit code of the command.

    Lenet5Error
    ├── UsageError      2   a wrong option, parameter or setting
    ├── Refused         3   the promotion gate rejected a version, or a reproduction differs
    ├── DataError       4   the data is missing, damaged, no regular file, or fails validation
    ├── TrainingError   5   training diverged, or scoring gave unusable numbers
    ├── Unavailable     6   a source, server or worker does not answer, a process was killed from outside,
    │                       or the checkout is in use
    └── StorageError    7   the disk is full, over its quota, read-only or broken

Exit code 0 is success. Exit code 1 is a defect in this package or in a library; it prints a stack trace.
"""

from lenet5.core.text import mask_urls


class Lenet5Error(Exception):
    """A failure that the user can act on. Credentials of URLs in its message are masked.

    Args:
        what: What happened, as one sentence.
        expected: What the command needs; printed as ``expected:``.
        found: What is there instead; printed as ``found:``.
        fix: What the user can do; printed as ``fix:``.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> None:
        lines = [what]
        lines += [f"  expected: {expected}"] if expected is not None else []
        lines += [f"  found:    {found}"] if found is not None else []
        lines += [f"  fix:      {fix}"] if fix is not None else []
        super().__init__(mask_urls("\n".join(lines)))
        self.parts = {"what": what, "expected": expected, "found": found, "fix": fix}

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the error for scripts: ``what``, ``expected``, ``found``, ``fix``, ``exit_code``.

        A part that the error does not have is None.
        """
        texts = {name: None if part is None else mask_urls(str(part)) for name, part in self.parts.items()}
        return {**texts, "exit_code": self.exit_code}


class UsageError(Lenet5Error):
    exit_code = 2


class Refused(Lenet5Error):
    exit_code = 3


class DataError(Lenet5Error):
    exit_code = 4


class TrainingError(Lenet5Error):
    exit_code = 5


class Unavailable(Lenet5Error):
    exit_code = 6


class StorageError(Lenet5Error):
    exit_code = 7
