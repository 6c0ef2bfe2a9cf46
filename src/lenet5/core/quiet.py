"""Hide the output of compiled libraries on standard error."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Redirect file descriptor 2 in the block, and print the captured output only if the block fails.

    TensorFlow writes a dozen lines when it is imported, and no log level stops them.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        real = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(real, captured.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
