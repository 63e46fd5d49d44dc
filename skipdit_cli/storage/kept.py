"""Kept: files of ours that are read again, sealed when written and checked when read.

A seal says what kind of file it is, of which version, and whose; its sha256 is over these and over
all that the file says. In JSON it is the key "seal", in safetensors an entry of the metadata, in a
journal a key of every line. So a file that was damaged, that an older version wrote, or that lies
in the place of another one is not taken for what was written there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from skipdit_cli.errors import warn
from skipdit_cli.storage.disk import DamagedError, read_whole, sha256

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

T = TypeVar("T")

SEAL = "seal"
_ALIGNMENT = 8  # bytes, of what follows the head of a safetensors file


@dataclass(frozen=True)
class Kind:
    """A kind of kept file.

    Attributes:
        name: what it is, for people: "score".
        version: raised whenever what such a file holds, or what that means, changes.
        fix: what to do about a damaged one where nothing makes it again by itself.
    """

    name: str
    version: int
    fix: str = "delete it and run the same command again"


@contextmanager
def damaged_is_absent() -> Iterator[None]:
    """Tell in one line why a kept file cannot be taken, and go on as if there were none.

    Only around the reading of files that are made again where they are absent.
    """
    try:
        yield
    except DamagedError as error:
        warn(error.problem, place=error.place, fix="it counts as absent")


def sealed_json(
    content: Mapping[str, Any], kind: Kind, *, of: str, indent: int | None = 1
) -> bytes:
    """The bytes of a JSON file, or without indent those of a journal's line.

    Args:
        content: a mapping that JSON can hold.
        of: whose file it is, such that no two files of a kind have the same.
    Raises:
        ValueError: a number is not finite.
    """
    plain = json.loads(json.dumps(content, allow_nan=False))
    seal = _seal(kind, of, _canonical(plain))
    return json.dumps({**plain, SEAL: seal}, indent=indent).encode() + b"\n"


def unsealed_json(data: bytes, kind: Kind, *, of: str) -> dict[str, Any]:
    """What `sealed_json` was given.

    Raises:
        ValueError: it is not what was written.
    """
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")
    seal = content.pop(SEAL, None)
    _check(seal, kind, of, _canonical(content))
    return content


def sealed_arrays(data: bytes, kind: Kind, *, of: str) -> bytes:
    """The bytes of a safetensors file, from those that `safetensors` made of arrays."""
    head, rest = _parts(data)
    notes = head.setdefault("__metadata__", {})
    notes[SEAL] = json.dumps(_seal(kind, of, _canonical(head), rest))
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + rest


def read_json(path: Path, parse: Callable[[dict[str, Any]], T], kind: Kind, *, of: str) -> T | None:
    """Read a sealed JSON file.

    Args:
        path: the file.
        parse: what it says; a ValueError, TypeError or LookupError where it has another shape.
        of: as it was written with.
    Returns:
        What `parse` made of it; None where there is no such file.
    Raises:
        DamagedError: the file is not what was written there.
        StoreError: the disk cannot be read.
    """
    return read_whole(
        path,
        lambda data: parse(unsealed_json(data, kind, of=of)),
        what=kind.name,
        fix=kind.fix,
    )


def read_arrays(
    path: Path, parse: "Callable[[dict[str, np.ndarray]], T]", kind: Kind, *, of: str
) -> T | None:
    """Read a sealed safetensors file as arrays by name; otherwise as `read_json`."""
    from safetensors.numpy import load

    def arrays(data: bytes) -> T:
        _check_arrays(data, kind, of)
        return parse(load(data))

    return read_whole(path, arrays, what=kind.name, fix=kind.fix)


def read_tensors(path: Path, kind: Kind, *, of: str) -> "dict[str, Tensor] | None":
    """Read a sealed safetensors file as tensors by name; otherwise as `read_json`."""
    from safetensors.torch import load

    def tensors(data: bytes) -> "dict[str, Tensor]":
        _check_arrays(data, kind, of)
        return load(data)

    return read_whole(path, tensors, what=kind.name, fix=kind.fix)


def unchanged(path: Path, recorded: str | None, kind: Kind) -> bool:
    """True for a file whose sha256 stands in a sealed one beside it.

    Args:
        recorded: what stands there; None where there is no such file.
    Raises:
        DamagedError: it is not what was written.
        StoreError: it cannot be read.
    """
    if sha256(path) != recorded:
        why = (
            "was changed or damaged after it was written" if recorded else "has no record beside it"
        )
        raise DamagedError(why, place=str(path), fix=kind.fix)
    return True


def shaped(kind: type[T], record: Mapping[str, Any]) -> T:
    """A dataclass from a mapping that has its fields and their types, and nothing else.

    Args:
        kind: its fields are bool, int, float (finite), str, dict, list, tuple, None or unions.
    Raises:
        ValueError: a key is missing or unknown, or a value is of another type.
    """
    assert is_dataclass(kind)
    wanted = {each.name for each in fields(kind)}
    if differ := sorted(wanted.symmetric_difference(record)):
        raise ValueError(f"unknown or missing: {', '.join(differ)}")
    hints = get_type_hints(kind)
    for name, value in record.items():
        if not fits(value, hints[name]):
            raise ValueError(f"its {name} cannot be {str(value)[:40]!r}")
    return kind(**record)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type; numbers are finite, and True is no number."""
    if get_origin(hint) is UnionType:
        return any(fits(value, each) for each in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is Any:
        return True
    if kind is NoneType:
        return value is None
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < float("inf")
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, kind):
        return False
    inside = get_args(hint)
    if kind is tuple and inside:
        each = inside[:1] * len(value) if inside[-1] is Ellipsis else inside
        return len(each) == len(value) and all(map(fits, value, each))
    if kind is list and inside:
        return all(fits(one, inside[0]) for one in value)
    if kind is dict and inside:
        return all(fits(k, inside[0]) and fits(v, inside[1]) for k, v in value.items())
    return True


def _seal(kind: Kind, of: str, *content: bytes) -> dict[str, Any]:
    """The seal of what is in a file, in pieces."""
    seal: dict[str, Any] = {"kind": kind.name, "version": kind.version, "of": of}
    digest = hashlib.sha256(_canonical(seal))
    for piece in content:
        digest.update(piece)
    return {**seal, "sha256": digest.hexdigest()}


def _check(seal: Any, kind: Kind, of: str, *content: bytes) -> None:
    """Raise a ValueError that says why a file with this seal is not the one that is wanted."""
    if not isinstance(seal, dict) or seal.get("kind") != kind.name:
        raise ValueError("it has no seal of one: an older version wrote it, or another tool")
    if seal.get("version") != kind.version:
        raise ValueError(f"it is of version {seal.get('version')!s:.20} and not {kind.version}")
    if seal.get("of") != of:
        raise ValueError(f"it is that of {seal.get('of')!s:.80}")
    if seal != _seal(kind, of, *content):
        raise ValueError("it was changed or damaged after it was written")


def _check_arrays(data: bytes, kind: Kind, of: str) -> None:
    head, rest = _parts(data)
    notes = head.get("__metadata__")
    said = notes.pop(SEAL, None) if isinstance(notes, dict) else None
    _check(json.loads(said) if said else None, kind, of, _canonical(head), rest)


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The head of a safetensors file, and what follows it."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    if not isinstance(head, dict):
        raise ValueError("its head is not a mapping")
    return head, data[8 + size :]


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
