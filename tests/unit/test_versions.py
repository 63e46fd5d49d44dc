"""Code that makes samples or scores has a version, which is raised when what it makes changes.

`versions.json` beside this file knows the hash of each such piece of code, without its comments and
docstrings, and the version that it had then. After a change

    python tests/unit/test_versions.py            enters what has a new VERSION
    python tests/unit/test_versions.py caches/pab     confirms that no pixel of `pab` changed
"""

import ast
import functools
import hashlib
import json
import sys
from pathlib import Path

import pytest

from skipdit_cli import registry, run

PACKAGE = Path(run.__file__).parent
KNOWN = Path(__file__).with_name("versions.json")
PARTS = {  # in run.py, of what every run goes through
    "LOOP": (
        "generate/batch",
        "generate/loop",
        "generate/hooks",
        "generate/rng",
        "generate/conditioning",
    ),
    "DECODING": ("generate/decode",),
    "TEXT": ("generate/text",),
    "PIPELINES": (
        "generate/accelerated",
        "generate/driven",
        "generate/pipelines",
        "checkpoints/denoiser",
    ),
    "DRAWING": ("checkpoints/drawn",),
}


def code(path):
    """The source of a module without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.Module(body) | ast.FunctionDef(body=body) | ast.ClassDef(body=body):
                match body:
                    case [ast.Expr(ast.Constant(str())) as docstring, *_]:
                        docstring.value.value = ""
    return ast.unparse(tree)


def shared(path):
    """The files with a `_` that a file imports from its folder, and those that they import."""
    found = [path]
    for each in found:
        for node in ast.walk(ast.parse(each.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            last = (node.module or "").rpartition(".")[2]
            for name in (last, *(alias.name for alias in node.names)):
                beside = path.parent / f"{name}.py"
                if name.startswith("_") and beside.is_file() and beside not in found:
                    found.append(beside)
    return found


@functools.cache
def pieces():
    """By name: the version that the code states now, and the files that it is."""
    found = {}
    for kind in registry.CONTRACTS:
        for name in registry.names(kind):
            path = registry._file(kind, name)
            files = sorted(path.parent.glob("*.py")) if path.stem == "__init__" else shared(path)
            found[f"{kind}/{name}"] = (registry.version(kind, name), files)
    for part, names in PARTS.items():
        files = [PACKAGE / f"{name}.py" for name in names]
        found[f"run/{part}"] = (getattr(run, part), files)
    return found


def now(piece):
    version, files = pieces()[piece]
    digest = hashlib.sha256("\n".join(map(code, files)).encode()).hexdigest()[:16]
    return [digest, version]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="another Python writes code otherwise")
@pytest.mark.parametrize("piece", sorted(pieces()))
def test_changed_code_has_a_new_version(piece):
    digest, version = now(piece)
    known_digest, known_version = json.loads(KNOWN.read_text()).get(piece, ["", None])
    assert (digest, version) == (known_digest, known_version), (
        f"the code of {piece} has changed: bump VERSION or confirm that no pixel changes; "
        f"then run `python tests/unit/test_versions.py {piece}`"
    )


def test_nothing_is_known_that_is_no_more():
    assert json.loads(KNOWN.read_text()).keys() == pieces().keys()


@pytest.mark.parametrize("kind", sorted(registry.CONTRACTS))
def test_the_version_in_the_source_is_that_of_the_module(kind):
    """It is read without importing anything; `VERSION = 2` has to stand on a line of its own."""
    for name in registry.names(kind):
        assert registry.version(kind, name) == registry.load(kind, name).VERSION


def test_comments_and_docstrings_do_not_count_and_the_rest_does(tmp_path):
    path = tmp_path / "a.py"
    texts = [
        '"""One."""\nX = 1  # one\n\ndef f():\n    """One."""\n    return X\n',
        '"""Two."""\nX = 1\n\n\ndef f():\n    """Two."""\n    # two\n    return X\n',
        '"""One."""\nX = 2\n\ndef f():\n    """One."""\n    return X\n',
    ]
    seen = [path.write_text(text) and code(path) for text in texts]
    assert seen[0] == seen[1] != seen[2]


if __name__ == "__main__":
    known = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {}
    confirmed = [
        piece
        for piece, (version, _) in pieces().items()
        if piece in sys.argv[1:] or known.get(piece, ["", None])[1] != version
    ]
    known = {piece: known.get(piece) for piece in pieces()} | {
        each: now(each) for each in confirmed
    }
    KNOWN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    print("entered:", ", ".join(confirmed) or "nothing; name what you confirm, as caches/pab")
