"""The command that makes a run again, read by the command line itself, gives that run."""

import shlex
from dataclasses import replace

import pytest

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import command_line
from skipdit_cli.recipe.again import making
from skipdit_cli.recipe.runs import make_run

GIVEN = (
    ("digits", "none", {}),
    ("digits-skip", "skip-cache(n=3,window=700-50)", {"seed": 3, "guidance": None}),
    ("digits", "fora(n=2)", {"classes": (3, 5), "num_samples": 2, "batch_size": 1}),
    ("digits", "teacache(threshold=0.1)", {}),  # as calibrated
    ("digits", "mag-cache", {"num_samples": 3}),
    ("digits", "none", {"compile": True, "precision": "tf32", "weights": "random"}),
    ("captioned-digits", "none", {"prompts": ("a 'four'", "-x"), "negative_prompt": "--no"}),
    ("captioned-digits", "none", {"prompts": "vbench"}),
    ("captioned-digits", "none", {"prompts": "vbench", "num_samples": 47}),
    ("captioned-digits", "none", {"prompts": "vbench", "seeds": "0..4", "num_samples": 50}),
    ("captioned-digits", "none", {"prompts": ("a", "b", "b"), "seeds": "2,3"}),
    ("digits", "none", {"classes": (3, 3, 5), "seeds": "0..2", "num_samples": 4}),
    ("digits", "none", {"seeds": (4, 9)}),
    ("latte-skip", "pab", {"weights": "random", "decode_precision": "float16"}),
)


def asked(command):
    """The run that a command line asks for."""
    program, name, *words = shlex.split(command)
    assert (program, name) == ("skipdit", "sample")
    given = command_line().commands[name].make_context(name, words).params
    names = ("classes", "prompt", "prompts", "negative_prompt", "num_samples", "batch_size", "seed")
    names += ("seeds",)
    names += ("steps", "sampler", "guidance", "precision", "weights", "decode_precision")
    settings = options.settings(**{n: given[n] for n in names}, compile=given["compile"] or None)
    (run,) = options.runs(given["model"], [given["cache"]], settings)
    return run


@pytest.mark.parametrize(("model", "cache", "settings"), GIVEN)
def test_it_gives_the_run(model, cache, settings):
    run = make_run(model, cache, settings)
    command = making(run)
    assert asked(command) == run
    assert asked(command).num_samples == run.num_samples


def test_it_says_what_is_not_the_models_own_and_no_more():
    run = make_run("digits", "fora(n=2)", {"seed": 3})
    assert making(run) == "skipdit sample --model digits --cache 'fora(n=2,mlp=true)' --seed 3"
    assert making(run.reference) == "skipdit sample --model digits --seed 3"


def test_where_no_command_gives_it_none_is_told():
    run = make_run("captioned-digits", settings={"prompts": tuple(f"a {i}" for i in range(9))})
    assert making(run) == ""
    run = make_run("captioned-digits", settings={"prompts": ("a", "b"), "seeds": "0..1"})
    assert making(replace(run, seeds=(0, 1, 1, 0))) == ""  # of a file
    assert making(replace(make_run("digits"), weights="of another file")) == ""
