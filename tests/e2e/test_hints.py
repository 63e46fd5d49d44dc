"""Every command that the product names works: read from its sources, where it has to be one of the
command line, and from what is told on an empty machine, where it has to get as far as the network.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import skipdit_cli
from skipdit_cli import registry
from skipdit_cli.assets import assets, clips, lists
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.checkpoints.inventory import remedy
from skipdit_cli.cli import command_line
from skipdit_cli.errors import SkipditError
from skipdit_cli.plan import plan
from skipdit_cli.recipe import prompts, recipe, runs
from skipdit_cli.report import doctor
from skipdit_cli.score import real_clips

SOURCES = Path(skipdit_cli.__file__).parent
COMMANDS = "ls|doctor|plan|download|sample|cache-sweep|evaluate|report|profile|train|analyze"
COMMANDS += "|show|rm|export|status|compare|gate|vbench-env"
MARKED = re.compile(r"`(skipdit [^`]+)`")
BARE = re.compile(rf"(?<![`\w])skipdit (?:{COMMANDS}) [^`;,()]+")  # it ends its clause
PLACEHOLDER = "1"  # a word, a number and a path
RELEASED = [name for name, card in catalog.CARDS.items() if not card.embedded]
WRONG: type[Exception] = typer.BadParameter.__base__


def strings(path: Path) -> Iterator[str]:
    """The strings of a file but for docstrings, which nobody is told;
    every {value} in them is PLACEHOLDER."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= set(map(id, node.values))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            left_out.add(id(node.body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (getattr(part, "value", None) for part in node.values)
            yield "".join(part if isinstance(part, str) else PLACEHOLDER for part in parts)
        elif isinstance(node, ast.Constant) and id(node) not in left_out:
            yield node.value if isinstance(node.value, str) else ""


def commands(text: str) -> list[str]:
    text = " ".join(text.split())
    return MARKED.findall(text) + [each.strip() for each in BARE.findall(MARKED.sub("", text))]


SHOWN = {
    command: path.relative_to(SOURCES).as_posix()
    for path in sorted(SOURCES.rglob("*.py"))
    for text in strings(path)
    for command in commands(text)
}


def parse(line: str) -> dict[str, object]:
    """What a command line asks for; nothing is run, and a wrong one raises."""
    _, *words = shlex.split(line)
    command = command_line()
    if words[-1] == "--help":
        for word in words[:-1]:
            command = command.commands[word]
        return {}
    context = command.make_context("skipdit", words)
    while hasattr(context.command, "commands"):
        words = [*context._protected_args, *context.args]
        name, inner, words = context.command.resolve_command(context, words)
        context = inner.make_context(name, words, parent=context)
    return context.params


def test_the_reader_sees_what_there_is(tmp_path):
    (tmp_path / "a.py").write_text(
        '"""`skipdit module`"""\ndef f():\n    """`skipdit function`"""\n'
        '    fix = f"run `skipdit plan {y}`, or " "`skipdit ls`; see skipdit ls recipes"\n'
    )
    (text,) = strings(tmp_path / "a.py")
    assert commands(text) == ["skipdit plan 1", "skipdit ls", "skipdit ls recipes"]
    assert len(SHOWN) > 25
    assert SHOWN["skipdit ls recipes"]
    for wrong in ("skipdit fetch x", "skipdit download --accept", "skipdit train --steps 5"):
        with pytest.raises((KeyError, WRONG)):
            parse(wrong)


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_of_the_sources_is_one_of_the_command_line(command):
    place, given = SHOWN[command], parse(command)
    for option, known in {
        "model": {*catalog.CARDS},
        "method": {*registry.names("caches")},
        "recipe": {*recipe.names()},
        "scale": {"tiny", "paper", "auto"},
        "metrics": {*assets.known(), *real_clips.DATASETS},
    }.items():
        value = given.get(option)
        assert value in {None, "NAME", *known} or not value.strip(PLACEHOLDER), (option, place)


def test_no_command_needs_the_repository():
    """Nobody is told to run make, or of a file that a wheel does not have."""
    only_there = re.compile(
        r"`make |\b(?:tests|docs|results/tiny)/|Makefile|README.md|CONTRIBUTING.md"
    )
    told = {
        (path.name, text)
        for path in SOURCES.rglob("*.py")
        for text in strings(path)
        if only_there.search(text)
    }
    assert told == set()


def told() -> dict[str, str]:
    """What an empty machine says of everything that can be fetched, by what it says it of."""
    said = {f"prompts {name}": error(prompts.read_prompts, name) for name in lists.NAMES}
    for name in RELEASED:
        card = catalog.card(name)
        said[f"weights of {name}"] = error(local.require, card)
        for key in card.components:
            said[f"{key} of {name}"] = error(local.component, card, key)
            said[f"damaged {key} of {name}"] = remedy(local.component_folder(card.components[key]))
        said[f"plan of {name}"] = "; ".join(plan._missing(runs.make_run(name), None))
    for name, asset in assets.declared().items():
        said[f"asset {name}"] = error(assets.require, asset)
    for name in real_clips.DATASETS:
        said[f"clips {name}"] = error(real_clips.path, f"{name}/released")
    for rows in (doctor.checkpoints(), doctor.metrics(), doctor.real_clips(), doctor.recipes()):
        said |= {f"doctor: {check}": detail for check, _, detail in rows}
    return said | {"training clips": f"`{clips.fetching(clips.TRAINING)}`"}


def error(call, *arguments) -> str:
    with pytest.raises(SkipditError) as caught:
        call(*arguments)
    return str(caught.value)


def test_what_is_said_of_an_absent_thing_brings_it(skipdit, monkeypatch, tmp_path):
    """Its licence is accepted by the command where it has to be: it ends at the network alone."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    said = {what: commands(text) for what, text in told().items()}
    silent = {what for what, found in said.items() if not found}
    assert silent <= {"doctor: recipe smoke", "doctor: recipe forecasting"}
    named = {command for found in said.values() for command in found}
    assert len(named) > 30
    (tmp_path / "FOLDER").mkdir()
    for command in sorted(named):
        done = skipdit(command.removeprefix("skipdit "))
        own = "--from FOLDER" in command  # the networks come first
        end = "download --metrics i3d" if own else "HF_HUB_OFFLINE is set"
        assert (done.code, end in done.err.splitlines()[-1]) == (4, True), (command, done)
