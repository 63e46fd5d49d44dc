"""Names of files made of what people wrote: a template, filled in and safe on every file system."""

import re
import string
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from skipdit_cli.errors import UsageError

VALUE = 80  # bytes of a value in a name
LONGEST = 200  # bytes of a name, of the 255 that file systems take, for an ending and a number
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\s]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows


def fields_of(template: str, fields: Collection[str], *, place: str, why: str = "") -> list[str]:
    """The fields in a template.

    Args:
        fields: those that there are.
        why: there are no others.
    Raises:
        UsageError: it cannot be read, or has another field.
    """
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        fix = f"write fields as {{index:04d}}; there are {', '.join(sorted(fields))}"
        raise UsageError(f"cannot read '{template}' ({error})", place=place, fix=fix) from None
    for _, name, form, _ in parts:
        if name not in fields or "{" in (form or ""):
            there = ", ".join(f"{{{each}}}" for each in sorted(fields))
            raise UsageError(
                f"there is no field {{{name}}}", place=place, fix=f"there are {there}{why}"
            )
    return [str(name) for _, name, _, _ in parts]


def filled(template: str, values: Mapping[str, Any], *, place: str) -> str:
    """A template, its fields filled in, as the name of a file without an ending.

    Raises:
        UsageError: a value does not take the form that is asked for.
    """
    short = {k: cut(safe(v), VALUE) if isinstance(v, str) else v for k, v in values.items()}
    try:
        return cut(safe(template.format_map(short)), LONGEST)
    except (ValueError, TypeError, MemoryError, OverflowError) as error:
        fix = "write numbers as {index:04d}, texts without a form"
        raise UsageError(f"cannot fill in '{template}' ({error})", place=place, fix=fix) from None


def safe(text: str) -> str:
    """A text as a part of a name: no slash, no control character, none that Windows refuses.

    >>> safe("a/b: two  lines\\nand a dot."), safe("../x"), safe("nul.png"), safe("???")
    ('a-b-two-lines-and-a-dot', 'x', '_nul.png', '_')
    """
    plain = unicodedata.normalize("NFC", text).encode("utf-8", "ignore").decode("utf-8")
    name = _UNSAFE.sub("-", plain).strip(" .-")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def cut(name: str, most: int) -> str:
    """The beginning of a name, with so many bytes in UTF-8 at most."""
    return name.encode()[:most].decode("utf-8", "ignore").rstrip(" .-")


def numbered(names: list[str]) -> list[str]:
    """Names, the second and later of those that a file system may take for the same numbered.

    >>> numbered(["a", "A", "b", "a", "a-2"])
    ['a', 'A-2', 'b', 'a-3', 'a-2-2']
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        again, number = name, 1
        while again.casefold() in taken:
            number += 1
            again = f"{name}-{number}"
        taken.add(again.casefold())
        unique.append(again)
    return unique
