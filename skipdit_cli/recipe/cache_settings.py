"""The settings of a caching method, read from its `Config`: name, default and what it means."""

import inspect
import re
from dataclasses import MISSING, dataclass, fields

from skipdit_cli import registry
from skipdit_cli.cache import value_text


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        default: as it is written in a spec; "" where the method finds it for the model.
        meaning: what the docstring says of it.
    """

    name: str
    default: str
    meaning: str


def settings(method: str, *, place: str = "") -> list[Setting]:
    """The settings of a method, in the order of its `Config`.

    Raises:
        UsageError: the method is not known.
    """
    config = registry.load("caches", method, place=place).Config
    meanings = _meanings(inspect.getdoc(config) or "")
    all_settings = []
    for field in fields(config):
        known = field.default is not MISSING and field.default is not None
        default = value_text(field.default, window=field.name == "window") if known else ""
        all_settings.append(Setting(field.name, default, meanings.get(field.name, "")))
    return all_settings


def _meanings(docstring: str) -> dict[str, str]:
    """What the section "Attributes:" says of each: its lines, joined."""
    section = re.search(r"^Attributes:\n((?: .*\n?|\n)*)", docstring, re.MULTILINE)
    meanings: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(section[1]).splitlines() if section else ():
        if match := re.match(r"(\w+): +(.*)", line):
            name, meanings[match[1]] = match[1], match[2]
        elif name:
            meanings[name] += f" {line.strip()}"
    return {key: text.strip() for key, text in meanings.items()}
