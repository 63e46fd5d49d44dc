"""What YAML means otherwise than the person who wrote it, found before anything is built of it.

YAML 1.1 reads `010` as 8, `1:30` as 90, `1_000` as 1000 and `no` as false, takes the last of two
equal keys, and lets a few lines of references stand for millions of values. A file that says such a
thing is refused; quotes make a text of it.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from skipdit_cli.errors import UsageError, placed

LONGEST = 1_000_000  # characters of a file
MOST = 50_000  # values, where what a reference repeats counts again
DEEPEST = 20  # lists and mappings within one another
# How people write what YAML takes for no text; anything else that it takes for such is refused.
PLAIN = {
    "int": r"[-+]?(0|[1-9][0-9]{0,17})",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?",
    "bool": r"(?i:true|false)",
    "null": r"(?i:null)|~|",
    "str": r"(?s:.*)",
    "merge": r"<<",
}


@dataclass
class _Part:
    """A list or mapping that is being read, or a value that was.

    Attributes:
        anchor: the name that references call it by.
        keys: of a mapping so far; None of anything else.
        entries: the keys and values, or items, that are read.
        values: how many values are in it, itself included.
        height: how many lists and mappings are within one another in it, itself included.
    """

    anchor: str | None
    keys: set[str] | None = None
    entries: int = 0
    values: int = 1
    height: int = 0

    @property
    def at_key(self) -> bool:
        return self.keys is not None and self.entries % 2 == 0


@dataclass
class _Reading:
    """How far a file is read: the lists and mappings that are open, and what has a name."""

    resolver: Any
    open: list[_Part] = field(default_factory=list)
    named: dict[str, _Part] = field(default_factory=dict)

    def begin(self, event: Any, keys: set[str] | None) -> None:
        """Open a list, or a mapping with its `keys`."""
        _refuse_tag(event)
        if self.open and self.open[-1].at_key:
            raise UsageError("a list or mapping is a key", fix="write a name before the colon")
        if len(self.open) == DEEPEST:
            raise _too_deep()
        self.open.append(_Part(event.anchor, keys, height=1))

    def end(self) -> None:
        """Close what was opened last."""
        self.add(self.open.pop())

    def scalar(self, event: Any) -> None:
        """Read a text, a number or a key."""
        import yaml  # type: ignore[import-untyped]

        _refuse_tag(event)
        if event.implicit[0]:  # it stands there without quotes
            tag = self.resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
            kind = tag.rpartition(":")[2]
            if not re.fullmatch(PLAIN.get(kind, r"(?!)"), event.value):
                said = f"'{event.value}', which YAML reads as {_as_read(tag, event.value)}"
                raise UsageError(said, fix="write it in full, or in quotes if it is a text")
        keys = self.open[-1].keys if self.open and self.open[-1].at_key else None
        if keys is not None:
            if event.value in keys:
                raise UsageError(f"key '{event.value}' occurs twice", fix="leave one of them out")
            keys.add(event.value)
        self.add(_Part(event.anchor))

    def alias(self, event: Any) -> None:
        """Read a reference to what has a name."""
        if event.anchor not in self.named:
            raise UsageError(f"*{event.anchor} refers to nothing before it", fix="write it out")
        part = self.named[event.anchor]
        self.add(_Part(None, values=part.values, height=part.height))

    def add(self, part: _Part) -> None:
        """Count something that has been read in what it stands in."""
        if part.anchor:
            self.named[part.anchor] = part
        if not self.open:
            return
        around = self.open[-1]
        around.entries += 1
        around.values += part.values
        around.height = max(around.height, part.height + 1)
        if around.values > MOST:
            raise UsageError(f"more than {MOST} values are no recipe", fix="use fewer references")
        if around.height > DEEPEST:
            raise _too_deep()


def check(text: str, shown: str) -> None:
    """Raise UsageError, which names the line, where a file says what people do not mean by it.

    Args:
        text: the YAML.
        shown: what errors call the file.
    Raises:
        yaml.YAMLError: it is not YAML.
    """
    import yaml

    if len(text) > LONGEST:
        raise UsageError(f"more than {LONGEST} characters are no recipe", place=shown)
    reading = _Reading(yaml.resolver.Resolver())
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        with placed(f"{shown} line {event.start_mark.line + 1}"):
            match event:
                case yaml.MappingStartEvent():
                    reading.begin(event, set())
                case yaml.SequenceStartEvent():
                    reading.begin(event, None)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    reading.end()
                case yaml.ScalarEvent():
                    reading.scalar(event)
                case yaml.AliasEvent():
                    reading.alias(event)


def _refuse_tag(event: Any) -> None:
    if event.tag:
        raise UsageError(f"tag '{event.tag}' has no meaning here", fix="leave it out")


def _too_deep() -> UsageError:
    return UsageError(f"more than {DEEPEST} levels are no recipe", fix="write fewer levels")


def _as_read(tag: str, value: str) -> str:
    """What YAML makes of a value, for people."""
    import yaml

    kind = tag.rpartition(":")[2]
    try:
        read = yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, value))
    except (ValueError, yaml.YAMLError):
        return f"a value of the kind {kind}"
    return f"the {kind} {read}"
