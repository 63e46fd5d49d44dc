"""Errors a user can cause or meet; each is one line that gives place, value and fix.

    SkipditError               1  failure
    ├── UsageError             2  wrong flag, recipe, spec or window
    ├── IncompleteError        3  some samples or cells are missing
    ├── MissingAssetError      4  weights, statistics or networks that must be fetched first
    ├── ToleranceError         5  a checked number is outside its tolerance
    └── StoreError             1  the disk: full, unwritable, locked, corrupt

The number is the exit code. The command line prints `str(error)` and nothing else.

What a person should know and that stops nothing is a `SkipditWarning`, told once by `warn`.
"""

import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

LONGEST = 500  # characters of each part of a message, whatever value is quoted in it
_LACKING = re.compile(  # what allocators of CPUs, drivers, CUDA's libraries and C++ say
    r"out of memory|not enough memory|can(?:no|')t allocate memory|_ALLOC_FAILED|\bbad_alloc\b"
    # and cuDNN where it finds no room to work in, though it may mean other things by it
    r"|CUDNN_STATUS_NOT_SUPPORTED|unable to find an engine to execute this computation",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SkipditError(Exception):
    """An error for people: `place: problem; fix`.

    Args:
        problem: what is wrong, with the offending value in it.
        place: where: a flag, a file, `recipes/table1.yaml rows[3].cache`.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, place: str = "", fix: str = "") -> None:
        self.problem, self.place, self.fix = problem, place, fix
        super().__init__(problem, place, fix)

    def __str__(self) -> str:
        head = f"{one_line(self.place)}: " if self.place else ""
        tail = f"; {one_line(self.fix)}" if self.fix else ""
        return f"{head}{one_line(self.problem)}{tail}"

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # keyword arguments survive the trip back from a worker process
        return _rebuild, (type(self), self.problem, self.place, self.fix)


class UsageError(SkipditError):
    exit_code = 2


class IncompleteError(SkipditError):
    exit_code = 3


class MissingAssetError(SkipditError):
    exit_code = 4


class ToleranceError(SkipditError):
    exit_code = 5


class StoreError(SkipditError):
    exit_code = 1


def lacks_memory(error: BaseException) -> bool:
    """Whether an error tells of a lack of memory, of this machine or of a GPU.

    torch has a class of its own for what its allocator on a GPU is refused; what a driver, cuBLAS,
    cuDNN or the allocator of a CPU is refused comes as a RuntimeError, told by its words alone.
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and _LACKING.search(str(error)) is not None
    )


def shortened(text: str) -> str:
    """A text of people as messages show it, on one line: all of it, or how it begins and ends."""
    line = " ".join(text.split())
    return line if len(line) <= 64 else f"{line[:40].rstrip()} ... {line[-20:].lstrip()}"


def several(count: int, noun: str) -> str:
    """A number of things, as a sentence has it.

    >>> several(1, "run"), several(2, "run")
    ('1 run', '2 runs')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def first_line(error: BaseException) -> str:
    """The first 200 characters of what an error says first; its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def one_line(text: str) -> str:
    """A text as a part of one line: control characters told, and the middle of a long one left out.

    >>> one_line("two\\nlines, \\x1b[31m")
    'two lines, \\\\x1b[31m'
    """
    text = _CONTROL.sub(lambda found: " " if found[0].isspace() else repr(found[0])[1:-1], text)
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


class SkipditWarning(UserWarning):
    """What a person should know and that stops nothing: `place: problem; what is done about it`."""


def of_run(error: SkipditError) -> bool:
    """Whether an error concerns one run, and not the disk, the weights or the command line."""
    return error.exit_code == SkipditError.exit_code and not isinstance(error, StoreError)


def warn(problem: str, *, place: str = "", fix: str = "") -> None:
    """Tell something that stops nothing, once in a process.

    Args:
        problem, place, fix: as of SkipditError; `fix` may also say what is done about it.
    """
    message = str(SkipditError(problem, place=place, fix=fix))
    warnings.warn(message, SkipditWarning, stacklevel=2)


def print_warnings() -> None:
    """Have warnings of this process printed as one line each on stderr, as the errors are."""
    warnings.simplefilter("default", SkipditWarning)
    before = warnings.showwarning
    told: set[str] = set()  # Python forgets what it has shown wherever filters are changed

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, SkipditWarning):
            if str(message) in told:
                return
            told.add(str(message))
            with suppress(OSError):  # that nobody can read it is no reason to stop
                print(f"skipdit: warning: {message}", file=sys.stderr, flush=True)
        else:
            before(message, category, *where, **more)

    warnings.showwarning = show


def _rebuild(kind: type[SkipditError], problem: str, place: str, fix: str) -> SkipditError:
    return kind(problem, place=place, fix=fix)


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Give a UsageError of the block this place, unless it has one that is nearer to the fault."""
    try:
        yield
    except UsageError as error:
        error.place = error.place or place
        raise


def unknown(what: str, value: str, known: Iterable[str], *, place: str = "") -> UsageError:
    """The error for a name that is not known, naming the nearest one that is.

    >>> print(unknown("cache", "foar", ["fora", "pab"], place="rows[3].cache"))
    rows[3].cache: unknown cache 'foar'; did you mean 'fora'?
    """
    names = sorted(known)
    near = get_close_matches(value, names, n=1, cutoff=0.5)
    known_names = f"known: {', '.join(names)}" if names else "there are none"
    fix = f"did you mean '{near[0]}'?" if near else known_names
    return UsageError(f"unknown {what} '{value}'", place=place, fix=fix)
