"""How people write things: `2..6`, `700-50`, `skip-cache(n=2,window=700-50)`, lists as `1/2/3`.

The keys inside the parentheses of a cache are the fields of the method's `Config`, the same in YAML
and on the command line. A grid has several values of a key, `n=2..4` or `window=700-50|1000-0`, and
is every cache that has one of each.
"""

import math
import re
import types
import typing
from contextlib import suppress
from itertools import product
from typing import Any

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec, Percent, Window
from skipdit_cli.errors import UsageError, unknown

MOST = 10_000  # values that a range may have
MOST_SEED = 2**63 - 1
DIGITS = 30  # more than any number has: Python refuses to read thousands
MOST_CACHES = 1000  # that a grid may have
WHOLE = "[0-9]{1,18}"  # as people write numbers: int() takes 1_000 and other scripts' digits too
_NUMBERS = {int: (f"[+-]?{WHOLE}", "an integer"), float: (r"[0-9eE.+-]{1,99}", "a number")}


def parse_cache(text: str, *, place: str = "") -> CacheSpec:
    """Parse `name` or `name(key=value,...)`: one cache.

    Raises:
        UsageError: unknown method or key (the nearest known one is named), or a value that does
            not fit, with `place` in front.
    """
    caches = parse_grid(text, place=place)
    if len(caches) > 1:
        raise UsageError(
            f"'{text}' is {len(caches)} caches, and one is wanted",
            place=place,
            fix=f"take one of them, as {caches[0].brief}",
        )
    return caches[0]


def parse_grid(text: str, *, place: str = "") -> list[CacheSpec]:
    """Parse a cache whose keys may have several values each: all of them crossed, each once.

    The key that is written last changes fastest.

    Raises:
        UsageError: as `parse_cache`; or more than MOST_CACHES.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\(\s*(.*?)\s*\))?\s*", text)
    if not match:
        raise UsageError(
            f"cannot read cache '{text}'", place=place, fix="write name(key=value,...)"
        )
    name, inside = match[1], match[2] or ""
    method = registry.load("caches", name, place=place)
    hints = typing.get_type_hints(method.Config)
    values: dict[str, list[Any]] = {}
    for part in filter(None, (p.strip() for p in inside.split(","))):
        key, sign, written = (p.strip() for p in part.partition("="))
        if not sign:
            raise UsageError(f"'{part}' in '{text}' is not key=value", place=place)
        if key not in hints:
            raise unknown(f"setting of {name}", key, hints, place=place)
        if key in values:
            raise UsageError(f"{key} is given twice in '{text}'", place=place)
        values[key] = _values(written, hints[key], place=f"{place or text} {key}".strip())
    count = math.prod(map(len, values.values()))
    if count > MOST_CACHES:
        raise UsageError(
            f"'{text}' is {count} caches, and {MOST_CACHES} is the most",
            place=place,
            fix="take fewer values",
        )
    caches = []
    for chosen in product(*values.values()):
        try:
            config = method.Config(**dict(zip(values, chosen, strict=True)))
        except UsageError as error:
            raise UsageError(
                f"{error.problem} in '{text}'", place=place or error.place, fix=error.fix
            ) from None
        caches.append(CacheSpec(method, config))
    return caches


def parse_whole(what: str, value: Any, *, least: int, most: int) -> int:
    """A whole number as people write it, in text or as a number.

    Args:
        what: it is, for errors.
    Raises:
        UsageError: it is none, or out of range.
    """
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        problem = f"{what} '{value}' is not a whole number"
        raise UsageError(problem, fix=f"{what} is {least} or more")
    number = int(text.lstrip("+-").lstrip("0")[:DIGITS] or 0) * (-1 if text[0] == "-" else 1)
    if number < least:
        raise UsageError(f"{what} {text} is too small", fix=f"{what} is {least} or more")
    if number > most:
        raise UsageError(f"{what} {text} is too many", fix=f"{what} is {most} or less")
    return number


def parse_range(text: str, *, place: str = "") -> list[int]:
    """Parse `4`, `2..6` or `2,4,6` (or a mix) into a list of integers in the order written."""
    values: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({WHOLE})\s*(?:\.\.\s*({WHOLE})\s*)?", part)
        if not match:
            raise UsageError(
                f"cannot read range '{text}'", place=place, fix="write 4, 2..6 or 2,4,6"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(
                f"range '{part.strip()}' runs backwards",
                place=place,
                fix=f"write {last}..{first}",
            )
        if last - first >= MOST:
            raise UsageError(f"range '{part.strip()}' is too long", place=place)
        values += range(first, last + 1)
    return values


def parse_window(text: str, *, place: str = "") -> Window:
    """Parse `700-50`: start and stop in training timesteps, as in the paper (sampling runs down);
    or `90%-10%`, in shares of the steps that are left.

    Raises:
        UsageError: not two integers, or a start that is not above the stop.
    """
    match = re.fullmatch(rf"\s*({WHOLE})(%?)\s*-\s*({WHOLE})(%?)\s*", text)
    if not match or match[2] != match[4]:
        raise UsageError(
            f"cannot read window '{text}'",
            place=place,
            fix="write start-stop, as in 700-50, or 90%-10%",
        )
    start, stop = int(match[1]), int(match[3])
    if match[2]:
        if start <= stop or start > 100:
            raise UsageError(
                f"window '{text}' must run from a higher to a lower share, 100% at most",
                place=place,
                fix="shares of the steps that are left are counted down, as in 90%-10%",
            )
        return Percent(start), Percent(stop)
    if start <= stop or start > 1000:
        raise UsageError(
            f"window '{text}' must run from a higher to a lower timestep, 1000 at most",
            place=place,
            fix=f"write {max(start, stop)}-{min(start, stop)}"
            if start < stop <= 1000
            else "timesteps are counted down from 1000 to 0, as in 700-50",
        )
    return start, stop


def _values(text: str, hint: Any, *, place: str) -> list[Any]:
    """The different values of `4`, `2..6`, `700-50|800-50` or a mix, in the order written."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(option for option in options if option is not type(None))
    values: list[Any] = []
    for part in map(str.strip, text.split("|")):
        if not part and "|" in text:
            raise UsageError(f"an alternative of '{text}' is empty", place=place)
        if kind is int and ".." in part:
            values += parse_range(part, place=place)
        else:
            values.append(_value(part, kind, place=place))
    return list(dict.fromkeys(values))


def _value(text: str, kind: Any, *, place: str) -> Any:
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[1] is Ellipsis:
        (kind, _) = typing.get_args(kind)
        return tuple(_value(part.strip(), kind, place=place) for part in text.split("/"))
    if typing.get_origin(kind) is tuple:
        return parse_window(text, place=place)
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"'{text}' is not true or false", place=place)
    if kind is str:
        return text
    form, what = _NUMBERS[kind]
    with suppress(ValueError):
        if re.fullmatch(form, text) and math.isfinite(value := kind(text)):
            return value
    raise UsageError(f"'{text}' is not {what}", place=place)
