"""What a person is told of a mistake in skipdit itself: one line, and a file with the traceback."""

import errno
import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from skipdit_cli import __version__, registry
from skipdit_cli.errors import SkipditError, UsageError, lacks_memory, one_line
from skipdit_cli.storage import disk

BEFORE = "skipdit-crash-"  # what the names of crash files begin with
FRAMES = 50  # of a traceback, on either side of the call that is kept


def told(error: Exception) -> SkipditError:
    """An error that nobody has made fit for people, as one that is.

    A fault in code of another package names its file and line, a refusal of the disk the place. Of
    everything else the traceback goes into a file in the system's folder for temporary files.
    """
    if blamed := registry.blamed(error):
        return blamed
    if isinstance(error, OSError) and isinstance(error.filename, str):
        if error.errno == errno.ENAMETOOLONG:
            return UsageError("file name too long", place=error.filename, fix="give a shorter one")
        return disk.refused(error, Path(error.filename))
    kind = type(error).__name__
    what = "out of memory" if lacks_memory(error) else f"a mistake in skipdit: {kind}"
    problem = f"{what} ({one_line(str(error))})" if str(error) else what
    try:
        fix = f"please report it with {_written(error)}, which tells where"
    except OSError:
        fix = "to see where, run it again with TMPDIR a folder that can be written"
    return SkipditError(problem, fix=fix)


def _written(error: Exception) -> str:
    """Write what a report needs into a new file; returns its path."""
    frames = traceback.format_exception(error)
    if len(frames) > 2 * FRAMES:
        frames = [*frames[:FRAMES], "  ...\n", *frames[-FRAMES:]]
    head = f"skipdit {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    file, path = tempfile.mkstemp(prefix=BEFORE, suffix=".txt")
    with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(f"{head}arguments: {sys.argv[1:]!r}\n\n{''.join(frames)}")
    return path
