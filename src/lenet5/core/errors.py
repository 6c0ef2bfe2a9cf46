"""Everything that can go wrong on purpose, and the exit code a script sees for it.

    Lenet5Error
    ├── UsageError      2   a wrong option, parameter or setting
    ├── Refused         3   a check was made and its answer is no: the promotion gate
    ├── DataError       4   the data is missing, damaged or fails validation
    ├── TrainingError   5   training or scoring gave something that is no model
    └── Unavailable     6   a source, server or worker does not answer any more, or the checkout is in use

0 is success; 1 is a defect of ours (or of a library), and then there is a stack trace.
"""


class Lenet5Error(Exception):
    """A failure that the user can act on: what happened, and what was expected, found, to be done."""

    exit_code = 1

    def __init__(
        self, what: str, *, expected: object = None, found: object = None, do: str | None = None
    ) -> None:
        lines = [what]
        lines += [f"  expected: {expected}"] if expected is not None else []
        lines += [f"  found:    {found}"] if found is not None else []
        lines += [f"  to do:    {do}"] if do is not None else []
        super().__init__("\n".join(lines))


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
