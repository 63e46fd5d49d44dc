"""What is here, what is not, and what is damaged."""

import json

import pytest
import torch
from safetensors.torch import save_file

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.checkpoints.inventory import lacking, parts
from skipdit_cli.recipe import needs, recipe

CARD = catalog.card("hunyuan-dit")
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def complete(home):
    """The folders of all parts of the card, by part."""
    folders = {part.name: part.folder for part in parts(CARD)}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        if name.startswith("tokenizer"):
            (folder / "vocab.txt").write_text("a\nb\n")
            (folder / "tokenizer_config.json").write_text("{}")
            continue
        (folder / "config.json").write_text("{}")
        if name == "text_encoder_2":
            for shard in SHARDS:
                save_file({"a": torch.ones(9)}, folder / shard)
            index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        elif name == "text_encoder":
            torch.save({"a": torch.ones(9)}, folder / "pytorch_model.bin")
        else:
            save_file({"a": torch.ones(9)}, folder / local.WEIGHTS_FILE)
    return folders


def states():
    return {part.name: part.state for part in parts(CARD)}


def test_all_parts_are_absent_at_first_and_here_at_last(home, complete):
    assert set(states().values()) == {"here"}
    assert list(states()) == ["denoiser", *CARD.components]
    assert lacking(CARD) == []
    card = catalog.card("latte-skip")
    assert {part.state for part in parts(card)} == {"absent"}
    assert [part.size for part in parts(card)] == [
        card.size,
        *(component.size for component in card.components.values()),
    ]


def test_places(home):
    encoder = catalog.card("latte").components["text_encoder"]
    assert (
        local.component_folder(encoder)
        == home / "components" / "maxin-cn--Latte-1" / "text_encoder"
    )
    vae = catalog.card("ucf101").components["vae"]
    assert local.component_folder(vae) == home / "components" / "stabilityai--sd-vae-ft-ema"


@pytest.mark.parametrize(
    ("part", "file", "told"),
    [
        ("denoiser", "config.json", "config.json is missing"),
        ("vae", local.WEIGHTS_FILE, "there are no weights"),
        ("text_encoder_2", SHARDS[1], f"{SHARDS[1]} is missing"),
        ("tokenizer", "vocab.txt", "there is no vocabulary"),
        ("tokenizer_2", "tokenizer_config.json", "tokenizer_config.json is missing"),
    ],
)
def test_a_missing_file_is_named(complete, part, file, told):
    (complete[part] / file).unlink()
    (found,) = lacking(CARD)
    assert (found.name, found.state, found.detail) == (part, "damaged", told)


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("denoiser", local.WEIGHTS_FILE),
        ("text_encoder", "pytorch_model.bin"),
        ("text_encoder_2", SHARDS[0]),
        ("text_encoder_2", "model.safetensors.index.json"),
        ("vae", "config.json"),
    ],
)
def test_a_file_that_is_cut_off_is_damaged(complete, part, file):
    path = complete[part] / file
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = lacking(CARD)
    assert (found.name, found.state) == (part, "damaged")
    assert found.detail.startswith(file)


def test_a_file_of_a_torch_before_1_6_is_no_damage(complete):
    path = complete["text_encoder"] / "pytorch_model.bin"
    torch.save({"a": torch.ones(9)}, path, _use_new_zipfile_serialization=False)
    assert lacking(CARD) == []
    path.write_bytes(path.read_bytes()[1:])
    (found,) = lacking(CARD)
    assert found.detail == "pytorch_model.bin is cut off or not a checkpoint"


def test_a_component_that_was_fetched_in_part_is_absent(complete):
    (complete["vae"] / local.INCOMPLETE).touch()
    assert states()["vae"] == "absent"


def test_what_a_recipe_needs():
    found = needs.checkpoints(recipe.load_recipe("table4", scale="paper"))
    assert set(found) == {"hunyuan-dit", "coco"}
    assert "coco" not in needs.checkpoints(recipe.load_recipe("table3", scale="paper"))
    assert set(needs.checkpoints(recipe.load_recipe("table8", scale="paper"))) == {
        "dit-xl-2",
        "dit-xl-2-skip",
    }
