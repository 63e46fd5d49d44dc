"""The lists of prompts that are fetched: small files of their forms, in their places.

tests/e2e/download has the download. The sizes and hashes were computed of the files at their
commits; what is in such files is read here from ones made by hand.
"""

import json
import re
from hashlib import sha256

import pytest

from skipdit_cli.assets import assets, lists
from skipdit_cli.checkpoints import card, licences
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.recipe import needs, prompts, runs
from skipdit_cli.recipe.shape import Recipe, RecipeRow

QUOTED = '"G I G G L E" painted on a wall with the word "WOMBAT".'
FORMS = {
    "drawbench": ("A red colored car.\nRainbow coloured penguin.", None),
    "geneval": (
        "".join(
            json.dumps({"tag": tag, "include": [{"class": "cow", "count": 1}], "prompt": text})
            + "\n"
            for tag, text in (("single_object", "a photo of a cow"), ("counting", "two cows"))
        ),
        ("a photo of a cow", "two cows"),
    ),
    "parti": (
        "Prompt\tCategory\tChallenge\tNote\n"
        'dogs\tAnimals\tBasic\tDescription of "Dogs"\n'
        f"{QUOTED}\tArtifacts\tWriting & Symbols\t\n"
        "cats\tAnimals\tBasic\t\n",
        ("dogs", QUOTED, "cats"),
    ),
}


@pytest.fixture
def place(tmp_path, monkeypatch, put_asset):
    """place(name) puts a small file of a list's form where the list belongs."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))

    def put(name):
        content = FORMS[name][0].encode()
        asset = put_asset(name, size=len(content), digest=sha256(content).hexdigest())
        path = lists.path(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        assets.write_record(asset)
        return path

    return put


@pytest.mark.parametrize("name", FORMS)
def test_a_list_in_the_order_of_its_file(place, name):
    path = place(name)
    found = prompts.read_prompts(name)
    assert found.texts == (FORMS[name][1] or tuple(FORMS[name][0].split("\n")))
    assert found.taken(1) is found  # an index is a line, whatever its category
    assert found.seeds is found.names is None
    assert path.parent.parent.name == "prompts"


@pytest.mark.parametrize("name", FORMS)
def test_where_a_list_is_from_is_fixed(name):
    """By a commit, its size and its hash; nothing has to be accepted."""
    asset = lists.PUBLISHED[name]
    at = r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/[\w/.]+"
    assert re.fullmatch(at, asset.source)
    assert asset.source.endswith(asset.file)
    assert asset.licence not in licences.RESTRICTED
    assert set(lists.NAMES) == {*FORMS, "coco"}


def test_a_list_that_is_absent_or_changed_is_told_with_its_command(place, tmp_path):
    with pytest.raises(MissingAssetError) as caught:
        prompts.read_prompts("parti", place="--prompts")
    assert str(caught.value) == (
        "--prompts: the prompt list parti is not here; "
        "run `skipdit download parti`, or give a file of prompts"
    )
    path = place("parti")
    path.write_text(path.read_text().replace("dogs", "hogs"))
    assert not lists.sound("parti")
    path.write_text(path.read_text()[:-5])
    with pytest.raises(MissingAssetError, match="the prompt list parti is damaged; run `skipdit"):
        prompts.read_prompts("parti")


def test_a_run_of_a_list_that_is_named_and_absent_is_refused(tmp_path, monkeypatch):
    """A model's own list may be absent: its costs are counted without."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    assert runs.make_run("hunyuan-dit").prompts is None
    with pytest.raises(MissingAssetError, match="run `skipdit download parti`"):
        runs.make_run("painted-digits", settings={"prompts": "parti"})
    dry = runs.make_run("painted-digits", settings={"prompts": "parti", "weights": card.RANDOM})
    assert dry.prompts == prompts.read_prompts(runs.STAND_IN).taken(16).texts


def test_a_recipe_needs_the_lists_that_it_names():
    row = RecipeRow("a", "a", {"": "painted-digits"}, settings={"prompts": "geneval"})
    recipe = Recipe("own", None, "", "tiny", (row,), (), {"prompts": "parti"})
    assert needs.checkpoints(recipe) == ("painted-digits", "geneval")


def test_no_list_is_a_metric():
    with pytest.raises(UsageError, match="unknown metric 'parti'"):
        assets.resolve(["parti"], place="--metrics")
