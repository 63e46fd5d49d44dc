"""Specs: the caches that methods, intervals and windows on a command line ask for."""

from dataclasses import fields
from itertools import product

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.spec import parse_cache, parse_range, parse_window

METHOD = "skip-cache"  # what is swept where no method is named


def specs(
    method: str | None, *, n: str | None, window: str | None, otherwise: str | None = None
) -> list[str]:
    """Cache specs of every method x interval x window, in that order; none if nothing is given.

    Args:
        method: comma-separated names, by default skip-cache.
        n: a range such as 2..6, by default each method's own interval.
        window: comma-separated windows, by default each method's own.
            Of several methods, each takes what it has a setting for.
        otherwise: the range of methods that have an interval, where neither n nor window is given.
    Raises:
        UsageError: a value cannot be read, or no method has such a setting.
    """
    if all(given is None for given in (method, n, window, otherwise)):
        return []
    spans = window.split(",") if window is not None else [None]
    for text in spans:
        if text is not None:
            parse_window(text, place="--window")
    names = [name.strip() for name in (method or METHOD).split(",")]
    settings = [
        {field.name for field in fields(registry.load("caches", name, place="--method").Config)}
        for name in names
    ]
    written: list[str] = []
    for name, known in zip(names, settings, strict=True):
        wanted = otherwise if n is None and window is None and "n" in known else n
        intervals = map(str, parse_range(wanted, place="--n")) if wanted is not None else [None]
        for interval, span in product(intervals, spans):
            given = {key: v for key, v in (("n", interval), ("window", span)) if v is not None}
            if strange := sorted(set(given).difference(*settings)):
                raise UsageError(
                    f"{name} has no setting {strange[0]}",
                    place=f"--{strange[0]}",
                    fix=f"its settings are {', '.join(sorted(known)) or 'none'}",
                )
            inside = ",".join(f"{key}={v}" for key, v in given.items() if key in known)
            written.append(f"{name}({inside})" if inside else name)
            parse_cache(written[-1], place="--n")
    return written
