"""Prompt lists: those that ship in recipes/data, those that are fetched, any file."""

import csv
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, UsageError, placed, unknown
from skipdit_cli.spec import MOST_SEED, parse_whole
from skipdit_cli.storage import given

Entry = tuple[str, Mapping[str, Any]]  # where it is in its file, and what it says

KEYS = ("prompt", "caption", "text", "prompt_en")  # names of a column, or of an object's key
VBENCH = "prompt_en"  # as VBench writes: an entry, with its "dimension", for each that a prompt has
SEED, NAME = COLUMNS = ("seed", "name")  # which may stand beside
MOST_BYTES = 32 * 2**20  # of a file
MOST_CAPTIONS = 2**30  # bytes of a file of captions, one for each of the images of a training set
MOST_CHARACTERS = 10_000  # of a prompt; an encoder reads a few hundred tokens
_SUFFIXES = (".jsonl", ".txt")
_READ: dict[Path, tuple[tuple[int, int], "Prompts"]] = {}  # time and size, and what is in it


@dataclass(frozen=True)
class Prompts:
    """Prompts, and what their file says of each; None where it does not.

    Attributes:
        texts: the prompts.
        seeds: of the noise of their samples.
        names: what their samples are called.
        dimensions: the first of VBench's that each is for.
    """

    texts: tuple[str, ...]
    seeds: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    dimensions: tuple[str, ...] | None = None

    def taken(self, count: int) -> "Prompts":
        """The prompts in the order in which `count` of them are taken.

        All are taken in the order of their file. Where they are fewer, VBench's dimensions take
        turns, so that every beginning of the list has as many prompts of each.
        """
        if not self.dimensions or count >= len(self.texts):
            return self
        turns, before = [], Counter[str]()
        for dimension in self.dimensions:
            turns.append(before[dimension])
            before[dimension] += 1
        order = sorted(range(len(turns)), key=turns.__getitem__)
        columns = (column and tuple(column[i] for i in order) for column in vars(self).values())
        return Prompts(*columns)


def names() -> list[str]:
    """The lists known by name, whether or not they are here."""
    from skipdit_cli.assets import lists

    return sorted([*lists.NAMES, *(path.stem for path in _shipped())])


def fetching(name: str) -> str:
    """The command that brings the list of a name, or "" for one that is no download."""
    from skipdit_cli.assets import lists

    return f"skipdit download {name}" if name in lists.NAMES else ""


def read_prompts(name_or_path: str, *, place: str = "") -> Prompts:
    """The prompts of a list, in the order of the file, each with its seed and name if it has them.

    Args:
        name_or_path: one of `names()`, or a file in UTF-8. Its ending says how it is read: .txt (or
            none), one prompt per line, where blank lines and lines that start with # are not
            prompts; .csv and .tsv, with a heading; .json, a list; .jsonl, one entry per line. The
            column is named as one of KEYS; an entry is an object with such a key, or the text
            itself. `seed` and `name` are columns or keys beside it, which all have or none. A
            prompt counts as often as it is there, but once (with a seed) under `prompt_en`.
        place: what errors name.
    Raises:
        UsageError: no such list, or a file that cannot be read or holds no prompt.
        MissingAssetError: the list must be downloaded first.
    """
    path = _find(name_or_path, place=place)
    shown = f"prompt file {path}"
    where = f"{place}: {shown}" if place else shown
    fix = f"give a file of prompts, or one of {', '.join(names())}"
    given.check(path, place=where, fix=fix)  # before its ending: there may be no such file
    stat = path.stat()
    now = stat.st_mtime_ns, stat.st_size
    if (read := _READ.get(path.absolute())) is None or read[0] != now:
        _READ[path.absolute()] = read = now, _read(path, where, fix)
    return read[1]


def read_captions(path: Path) -> list[tuple[str, str, Mapping[str, Any]]]:
    """The entries of a file, as `read_prompts` reads it: (where it is, its text, all it says).

    Raises:
        UsageError: it cannot be read, or an entry has no text.
    """
    with placed(str(path)):
        entries = _all_entries(path, str(path), "", most=MOST_CAPTIONS)
        key = _named(entries)
        texts = [checked(_filled(entry[key], where, key)) for where, entry in entries]
    return [(where, text, entry) for (where, entry), text in zip(entries, texts, strict=True)]


def _read(path: Path, where: str, fix: str) -> Prompts:
    """The prompts of a file."""
    with placed(where):
        return _prompts(_all_entries(path, where, fix, most=MOST_BYTES))


def _all_entries(path: Path, where: str, fix: str, *, most: int) -> list[Entry]:
    """The entries of a file of any kind; there is one at least."""
    kind = path.suffix.lower()
    if kind not in _READERS:
        endings = ", ".join(ending for ending in _READERS if ending)
        raise UsageError(f"files that end in {kind} are not read", fix=f"take {endings}")
    entries = _READERS[kind](_content(path, place=where, fix=fix, most=most))
    if not entries:
        raise UsageError("there is no text in it", fix="write one per line")
    return entries


def _named(entries: Sequence[Entry]) -> str:
    """The one of KEYS that entries have, all of which have the same."""
    return next(name for name in KEYS if name in entries[0][1])


def all_checked(prompts: Any, *, place: str = "") -> tuple[str, ...]:
    """Prompts as a tuple; as `checked`, which names the first that does not do.

    Raises:
        UsageError: there are none, or one of them cannot be a prompt.
    """
    with placed(place):
        if not isinstance(prompts, tuple | list) or not prompts:
            raise UsageError(f"'{prompts}' is not a list of prompts", fix="give one or more")
        return tuple(checked(prompt, where=f"{i}. prompt: ") for i, prompt in enumerate(prompts, 1))


def checked(prompt: Any, *, where: str = "") -> str:
    """A prompt, or a UsageError where it is not text that can be encoded, kept and printed.

    Args:
        where: which of several prompts it is; what the problem begins with.
    """
    if not isinstance(prompt, str):
        raise UsageError(f"{where}{prompt!r:.60} is not text", fix="write it in quotes")
    if len(prompt) > MOST_CHARACTERS:
        raise UsageError(
            f"{where}'{prompt[:40]}...' has {len(prompt)} characters",
            fix=f"take {MOST_CHARACTERS} or fewer",
        )
    strange = (c for c in prompt if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\r\n")
    if found := next(strange, ""):
        raise UsageError(
            f"{where}{prompt!r:.60} has the character U+{ord(found):04X}, which is not text",
            fix="take it out; text is UTF-8",
        )
    return prompt


def _content(path: Path, *, place: str, fix: str, most: int) -> str:
    """What a file says, with \\n for every kind of line end."""
    text = given.read_text(path, place=place, fix=fix, most=most)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(content: str) -> list[Entry]:
    lines = enumerate(map(str.strip, content.split("\n")), 1)
    return [(f"line {i}", {KEYS[0]: text}) for i, text in lines if text and text[0] != "#"]


def _tabs(content: str) -> list[Entry]:
    """The rows of a table in tabs: with cells in quotes, as spreadsheets write them, or without.

    PartiPrompts has a prompt that begins with a quoted word; the format's own registration knows no
    quotes.
    """
    try:
        return _table(content, "\t")
    except UsageError:
        return _table(content, "\t", quoting=csv.QUOTE_NONE)


def _table(
    content: str, delimiter: str, *, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> list[Entry]:
    """The rows of a table with a heading."""
    text = io.StringIO(content, newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True, quoting=quoting)
    rows = []
    try:
        for row in reader:
            if any(map(str.strip, row)):
                rows.append((f"line {reader.line_num}", row))
    except csv.Error as error:
        fix = 'write quotes in a quoted cell twice (""), and close them'
        raise UsageError(f"line {reader.line_num} cannot be read ({error})", fix=fix) from None
    if not rows:
        return []
    heading = [name.strip() for name in rows[0][1]]
    known = [name.lower() for name in heading]
    _key(known, "its heading", ", ".join(heading))
    for name in COLUMNS:
        if known.count(name) > 1:
            raise UsageError(f"its heading has {name} twice", fix="name one column so")
    for where, row in rows[1:]:
        if len(row) != len(heading):
            raise UsageError(
                f"{where} has {len(row)} cells where the heading has {len(heading)}",
                fix="put cells that have the delimiter in them in double quotes",
            )
    return [(where, dict(zip(known, row, strict=True))) for where, row in rows[1:]]


def _list(content: str) -> list[Entry]:
    """The entries of a list in JSON."""
    value = _json(content, "it")
    if not isinstance(value, list):
        fix = f'write ["...", "..."], or objects with the key {" or ".join(KEYS)}'
        raise UsageError("it is not a list in JSON", fix=fix)
    return _entries([(f"entry {i}", entry) for i, entry in enumerate(value, 1)])


def _json_lines(content: str) -> list[Entry]:
    """The entries of lines in JSON."""
    numbered = [(f"line {i}", line) for i, line in enumerate(content.split("\n"), 1)]
    return _entries([(where, _json(line, where)) for where, line in numbered if line.strip()])


def _entries(entries: Sequence[tuple[str, Any]]) -> list[Entry]:
    """Entries that are all text, or all objects with the same key of KEYS."""
    if not entries or isinstance(entries[0][1], str):
        return [(where, {KEYS[0]: entry}) for where, entry in entries]
    where, first = entries[0]
    key = _key(list(first) if isinstance(first, dict) else [], where, f"{first!r:.60}")
    columns = {key}.union(*(entry for _, entry in entries if isinstance(entry, dict)))
    for name in (key, *COLUMNS):
        for where, entry in entries if name in columns else ():
            if not isinstance(entry, dict) or name not in entry:
                problem = f"{where} is {entry!r:.60}, without '{name}'"
                raise UsageError(problem, fix=f"give it a '{name}'")
    return list(entries)


def _key(found: Sequence[str], where: str, shown: str) -> str:
    """The one of KEYS that is there."""
    known = [name for name in found if name in KEYS]
    if len(known) != 1:
        what = f"has {' and '.join(known)}" if known else f"has no text ({shown:.60})"
        raise UsageError(f"{where} {what}", fix=f"name one column or key {', '.join(KEYS)}")
    return known[0]


def _prompts(entries: Sequence[Entry]) -> Prompts:
    """What entries say, all of which have the keys of the first."""
    key = _named(entries)
    texts = [_filled(entry[key], where, "prompt") for where, entry in entries]
    seeds = names = dimensions = None
    if SEED in entries[0][1]:
        seeds = [_seed(entry[SEED], where) for where, entry in entries]
    if NAME in entries[0][1]:
        names = [checked(_filled(entry[NAME], where, NAME)) for where, entry in entries]
    found = [entry.get("dimension") for _, entry in entries if key == VBENCH]
    if found and all(isinstance(each, list) and each for each in found):
        dimensions = [str(each[0]) for each in found if each]
    first: dict[Any, int] = {}
    for i, text in enumerate(texts):
        subject = (text, seeds[i] if seeds else None) if key == VBENCH else i
        first.setdefault(subject, i)

    def kept(column: list[Any] | None) -> tuple[Any, ...] | None:
        return None if column is None else tuple(column[i] for i in first.values())

    return Prompts(all_checked(kept(texts)), kept(seeds), kept(names), kept(dimensions))


def _seed(value: Any, where: str) -> int:
    try:
        return parse_whole(SEED, value, least=0, most=MOST_SEED)
    except UsageError as error:
        raise UsageError(f"{where}: {error.problem}", fix=error.fix) from None


def _filled(value: Any, where: str, what: str) -> str:
    """A text without the space around it."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} has {value!r:.60} for a {what}", fix="write text there")
    return value.strip()


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else "it is nested too deeply"
        raise UsageError(f"{where} is not JSON ({reason:.80})", fix="write valid JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content


_READERS: dict[str, Callable[[str], list[Entry]]] = {
    "": _lines,
    ".txt": _lines,
    ".csv": lambda content: _table(content, ","),
    ".tsv": _tabs,
    ".json": _list,
    ".jsonl": _json_lines,
}


def _find(name_or_path: str, *, place: str) -> Path:
    from skipdit_cli.assets import lists

    if name_or_path in lists.NAMES:
        if not lists.sound(name_or_path):
            what = "not here" if lists.state(name_or_path) == "absent" else "damaged"
            raise MissingAssetError(
                f"the prompt list {name_or_path} is {what}",
                place=place,
                fix=f"run `{fetching(name_or_path)}`, or give a file of prompts",
            )
        return lists.path(name_or_path)
    for path in _shipped():
        if path.stem == name_or_path:
            return path
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1 or os.path.exists(name_or_path):
        return path
    raise unknown("prompt list", name_or_path, names(), place=place)


def _shipped() -> list[Path]:
    return [path for path in (shipped.recipes() / "data").iterdir() if path.suffix in _SUFFIXES]
