"""YAML files that people write: read, and checked for their shape, with every mistake kept.

Nothing here knows what a recipe is; `recipe` says which keys and values it expects where.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.storage import given


def read_yaml(path: Path, shown: str) -> Any:
    """What a YAML file holds.

    Args:
        shown: what errors call the file.
    Raises:
        UsageError: it cannot be read, is not valid YAML, or YAML reads it otherwise than people do;
            the line is named.
    """
    import yaml  # type: ignore[import-untyped]

    from skipdit_cli.recipe import yaml_events

    text = given.read_text(path, place=shown)
    try:
        yaml_events.check(text, shown)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"not valid YAML ({error.problem})", place=shown + line) from None
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"not valid YAML ({error})", place=shown) from None


class Mistakes:
    """All mistakes of one file, one line each, so that one error can report them together.

    Attributes:
        shown: what the mistakes call the file.
        errors: the mistakes so far.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.errors: list[str] = []

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Keep the mistake that the block finds, with its place, and go on behind the block."""
        try:
            yield
        except UsageError as error:
            where = f"{self.shown} {place}".strip()
            inner = error.place if error.place.startswith(self.shown) else where
            self.errors.append(str(UsageError(error.problem, place=inner, fix=error.fix)))

    def mapping(
        self, value: Any, place: str, known: Iterable[str] = (), required: Iterable[str] = ()
    ) -> dict[str, Any]:
        """A mapping with its keys as text; {} for anything else, which is a mistake.

        Args:
            value: what the file has there.
            place: where that is in the file.
            known: the keys that are allowed; any key where this is empty.
            required: the keys that must be there, and not without an entry.
        """
        if not isinstance(value, dict):
            with self.at(place):
                raise UsageError(f"'{value}' is not a mapping", fix="write key: value")
            return {}
        for key in value:
            if known and key not in known:
                with self.at(place):
                    raise unknown("key", str(key), known)
        for key in required:
            if key not in value:
                with self.at(place):
                    raise UsageError(f"'{key}' is missing")
            if value.get(key) in ({}, []):
                with self.at(place):
                    raise UsageError(f"'{key}' is empty", fix="write one entry at least")
        return {str(key): item for key, item in value.items()}

    def sequence(self, value: Any, place: str) -> list[Any]:
        """A list; [] for anything else, which is a mistake."""
        if isinstance(value, list):
            return value
        with self.at(place):
            raise UsageError(
                f"'{value}' is not a list", fix="write one line that starts with - per entry"
            )
        return []

    def texts(self, content: dict, place: str, keys: Iterable[str]) -> dict[str, str]:
        """The text of each key that is there; numbers count as text, lists and mappings do not."""
        texts = {}
        for key in keys:
            value = content.get(key)
            if isinstance(value, str | int | float):
                texts[key] = str(value)
            elif value is not None:
                with self.at(f"{place}.{key}".strip(".")):
                    raise UsageError(f"'{value}' is not text")
        return texts

    def unique(self, values: Sequence[str], place: str, what: str) -> None:
        """Keep a mistake for every value that occurs again.

        Args:
            values: one value per entry of the list.
            place: where the list stands.
            what: the key of the values in the entries.
        """
        for i, value in enumerate(values):
            if value in values[:i]:
                with self.at(f"{place}[{i}].{what}"):
                    raise UsageError(f"'{value}' occurs twice", fix="rename one of them")
