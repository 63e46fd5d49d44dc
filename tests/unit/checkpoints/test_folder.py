"""A folder that is a model: what is written comes back, and every mistake is told in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from skipdit_cli.checkpoints import catalog, folder, local, networks
from skipdit_cli.checkpoints.card import EMBEDDED_DATA, Sampling, file_name
from skipdit_cli.checkpoints.catalog import CARDS
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.recipe.runs import from_dict, make_run
from skipdit_cli.run import Run

SAID = (
    *("family", "task", "variant", "skip", "arguments", "sampling", "components"),
    *("precisions", "prompts", "negative_prompt", "licence", "data"),
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(name: str = "digits-skip", at: str = "runs/mine", *, weights: bool = False) -> Path:
    """A folder with the card and the configuration of an embedded model."""
    source, target = local.weights_file(CARDS[name]).parent, Path(at)
    target.mkdir(parents=True)
    for file in (folder.CONFIG, *([local.WEIGHTS_FILE] if weights else [])):
        shutil.copy(source / file, target / file)
    folder.write(target, CARDS[name])
    return target


def edit(file: Path, **fields) -> None:
    """Replace fields of a JSON file by name, a dot before one inside; None removes it."""
    content = json.loads(file.read_text())
    for name, value in fields.items():
        *outer, last = name.split("__")
        inside = content
        for each in outer:
            inside = inside[each]
        inside.pop(last, None)
        if value is not None:
            inside[last] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["digits", "digits-skip", "moving-digits", "captioned-digits", "fashion"]
)
def test_what_is_written_comes_back(name):
    made(name)
    card = catalog.card("runs/mine")
    known = CARDS[name]
    assert {each: getattr(card, each) for each in SAID} == {
        each: getattr(known, each) for each in SAID
    }
    assert (card.name, card.source, card.folder, card.tiny) == (*["runs/mine"] * 3, "")
    assert local.weights_file(card) == Path("runs/mine") / local.WEIGHTS_FILE
    assert networks.arguments(card) == networks.arguments(known)
    assert not card.embedded
    assert card.dataset == known.dataset


def test_a_card_of_two_text_encoders_and_of_large_networks(tmp_path):
    for name in ("hunyuan-dit", "ucf101-skip"):
        folder.write(tmp_path, CARDS[name])
        card = folder.read(tmp_path)
        known = CARDS[name]
        assert (card.components, card.negative_prompt) == (known.components, known.negative_prompt)
        assert (card.sampling, card.precisions) == (known.sampling, known.precisions)


@pytest.mark.parametrize(
    "typed", ["runs/mine", "runs/mine/", "./runs/mine", "runs//mine", "runs/./mine"]
)
def test_one_folder_has_one_name(typed):
    made()
    assert catalog.card(typed).name == catalog.named(typed) == "runs/mine"


def test_a_known_name_comes_before_a_folder():
    made(at="digits-skip")
    assert catalog.card("digits-skip") is CARDS["digits-skip"]
    assert catalog.named("digits-skip") == "digits-skip"
    card = catalog.card("./digits-skip")
    assert (card.name, card.embedded) == ("./digits-skip", False)
    assert catalog.card(card.name) == card


def test_a_folder_without_a_slash():
    made(at="mine")
    assert catalog.card("mine").name == "./mine"


def test_a_record_finds_its_folder_again():
    made(weights=True)
    run = make_run("runs/mine/", settings={"steps": "4"})
    again = from_dict(json.loads(json.dumps(run.to_dict())))
    assert (again, again.key) == (run, run.key)


def test_a_person_may_leave_out_what_has_a_default():
    made()
    content = json.loads(Path("runs/mine/card.json").read_text())
    keep = ("family", "task", "variant", "skip", "arguments")
    least = {name: content[name] for name in keep}
    least["sampling"] = {"sampler": "ddpm", "steps": "25", "guidance": 3}
    Path("runs/mine/card.json").write_text(json.dumps(least))
    card = catalog.card("runs/mine")
    assert card.sampling == Sampling("ddpm", "25", 3.0)
    assert isinstance(card.sampling.guidance, float)  # a key does not tell 3 from 3.0
    assert (card.data, card.dataset, card.components) == ("", "", {})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"family": "dti"}, ("unknown family 'dti'", "'dit'")),
        ({"family": "latte"}, ("unknown variant", "Latte")),
        ({"variant": "DiT-digits/5"}, ("unknown variant 'DiT-digits/5'", "DiT-digits/4")),
        ({"task": "c2x"}, ("unknown task 'c2x'",)),
        ({"task": "c2v"}, ("task of dit is c2i, not c2v", "write c2i")),
        ({"skip": "yes"}, ('skip cannot be "yes"', "true or false")),
        ({"skip": None}, ("has no skip",)),
        ({"skip": False}, ("config.json: skip is true, and by card.json it is false", "mend")),
        ({"colour": "red"}, ("unknown field 'colour'",)),
        ({"arguments": [1]}, ("arguments cannot be [1]",)),
        ({"arguments": {"depht": 3}}, ("describes no network", "depht")),
        ({"arguments": {"depth": "six"}}, ("describes no network", "mend its variant")),
        ({"arguments": {"num_classes": 11}}, ("num_classes is 10, and by card.json it is 11",)),
        ({"sampling": "ddim"}, ('sampling cannot be "ddim"',)),
        ({"sampling__sampler": "dmid"}, ("sampling: unknown sampler 'dmid'",)),
        ({"sampling__steps": 50}, ("steps cannot be 50", "text in quotes")),
        (
            {"sampling__steps": "abc"},
            ("card.json sampling: cannot take steps 'abc'", "such as 250"),
        ),
        ({"sampling__steps": None}, ("sampling: has no steps",)),
        ({"sampling__guidance": True}, ("guidance cannot be true", "a number or null")),
        ({"sampling__guidance": 0.5}, ("guidance cannot be 0.5", "1 or more, or null")),
        ({"sampling__prediction": "x0"}, ("unknown prediction 'x0'",)),
        ({"sampling__betas": []}, ("betas cannot be []", "0.0001")),
        ({"sampling__betas": ["linear", 0.02, 1e-4]}, ("betas cannot be ['linear', 0.02",)),
        ({"sampling__betas": ["cosine", 1e-4, 0.02]}, ("betas cannot be ['cosine'",)),
        ({"precisions": []}, ("precisions is empty",)),
        ({"precisions": ["fp16"]}, ("unknown precision 'fp16'", "float16")),
        ({"data": "my/photos"}, ("data cannot be 'my/photos'",)),
        ({"components__vea": {"repository": "a/b"}}, ("unknown component 'vea'", "'vae'")),
        ({"components__vae": {"folder": "x"}}, ("components.vae: has no repository",)),
        ({"components__vae": {"repository": "../.."}}, ("components.vae: cannot be ../..",)),
        ({"components__vae": {"repository": "/etc"}}, ("components.vae: cannot be /etc",)),
        (
            {"components__vae": {"repository": "embedded", "folder": "../.."}},
            ("components.vae: cannot be embedded, ../..",),
        ),
        ({"components__vae": {"repository": "here"}}, ("'here'", "OWNER/NAME")),
    ],
)
def test_mistakes_in_a_card(fields, said):
    made()
    edit(Path("runs/mine/card.json"), **fields)
    with pytest.raises(UsageError) as caught:
        catalog.card("runs/mine", place="--model")
    line = str(caught.value)
    assert line.startswith("runs/mine/")
    assert "\n" not in line
    assert len(line) < 500
    assert [part for part in said if part not in line] == [], line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has no fields in braces"),
        ('{"skip": NaN}', "NaN is no number"),
        ("\xff", "is not JSON"),
        (" " * (folder.MOST + 1), "at most 1000000 are read"),
    ],
)
def test_a_card_that_is_none(text, said):
    made()
    Path("runs/mine/card.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"^runs/mine/card.json: .*{said}"):
        catalog.card("runs/mine")


def test_a_card_in_other_bytes_or_of_another_kind():
    made()
    Path("runs/mine/card.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        catalog.card("runs/mine")
    Path("runs/mine/card.json").unlink()
    Path("runs/mine/card.json").mkdir()
    with pytest.raises(UsageError, match="is a folder, not a file"):
        catalog.card("runs/mine")


def test_a_task_of_text_needs_encoders():
    made("captioned-digits")
    edit(Path("runs/mine/card.json"), components__text_encoder=None)
    with pytest.raises(UsageError, match="components has no text_encoder"):
        catalog.card("runs/mine")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depth": 8}, "depth is 8, and by card.json it is 6"),
        ({"_class_name": "Latte"}, '_class_name is "Latte", and by card.json it is "DiT"'),
        ({"gates": 3}, "gates is nothing that DiT has"),
        ({"depth": None}, "depth is 28, and by card.json it is 6"),  # the constructor's default
    ],
)
def test_a_configuration_of_another_network(fields, said):
    made()
    edit(Path("runs/mine/config.json"), **fields)
    with pytest.raises(UsageError, match=f"^runs/mine/config.json: {said}"):
        catalog.card("runs/mine")


def test_a_configuration_that_is_none_and_one_that_is_absent():
    made()
    Path("runs/mine/config.json").write_text("[]")
    with pytest.raises(UsageError, match="is not what diffusers writes"):
        catalog.card("runs/mine")
    Path("runs/mine/config.json").unlink()
    assert catalog.card("runs/mine").variant == "DiT-digits/4"


def test_what_was_found_right_is_looked_at_again_where_it_changes(monkeypatch):
    made()
    catalog.card("runs/mine")

    def built(*given):
        raise AssertionError("it was built again")

    with monkeypatch.context() as patch:
        patch.setattr(networks, "meta", built)
        catalog.card("runs/mine")
    edit(Path("runs/mine/config.json"), depth=8)
    with pytest.raises(UsageError, match="depth is 8"):
        catalog.card("runs/mine")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("runs", "--model: ./runs is a folder without card.json; name a folder"),
        ("runs/none", "--model: there is no folder runs/none; name a folder"),
        ("runs/mine/config.json", "--model: runs/mine/config.json is a file, not the folder"),
        ("rums", "--model: unknown model 'rums'"),
        ("a\0/b", "--model: there is no folder a"),
        ("a/" + "b" * 300, "--model: there is no folder a/bbb"),
    ],
)
def test_what_is_no_model(name, said):
    made()
    with pytest.raises(UsageError) as caught:
        catalog.card(name, place="--model")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_absent_weights():
    made()
    card = catalog.card("runs/mine")
    assert local.fingerprint(card) == "absent"
    with pytest.raises(MissingAssetError, match=r"runs/mine are not here: it has no diffusion_.*"):
        local.require(card)


def test_a_fingerprint_tells_weights_and_what_samples_depend_on():
    made(weights=True)
    first = local.fingerprint(catalog.card("runs/mine"))
    assert len(first) == 16
    edit(Path("runs/mine/card.json"), sampling__steps="20", sampling__guidance=None, data=None)
    assert local.fingerprint(catalog.card("runs/mine")) == first  # a run has these by itself
    edit(Path("runs/mine/card.json"), sampling__prediction="v_prediction")
    second = local.fingerprint(catalog.card("runs/mine"))
    assert second != first
    shutil.copy(local.weights_file(CARDS["digits"]), Path("runs/mine") / local.WEIGHTS_FILE)
    assert local.fingerprint(catalog.card("runs/mine")) not in (first, second)


def test_the_key_of_a_dry_run_tells_cards_apart():
    def run() -> Run:
        return make_run("runs/mine", settings={"weights": "random", "steps": "4"})

    made()
    first = run().key
    edit(Path("runs/mine/card.json"), sampling__prediction="v_prediction")
    assert run().key != first


def test_names_of_files():
    assert file_name("moving-digits") == "moving-digits"
    paths = (
        "a/mine",
        "b/mine",
        "/a/mine",
        "../a/mine",
        "a/..",
        "./.",
        "/",
        "a/m i:n*e",
        "a/" + 99 * "x",
    )
    names = [file_name(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert all(len(name) < 60 and Path(name).name == name for name in names)
    assert all(name[0].isalnum() and name.isascii() for name in names)
    assert [name.rpartition("-")[0] for name in names[:8]] == [
        *(["mine"] * 4),
        *(["model"] * 3),
        "m-i-n-e",
    ]


def test_what_a_model_was_trained_on():
    known = {card.name: card.dataset for card in CARDS.values() if card.dataset in EMBEDDED_DATA}
    assert known.keys() == {card.name for card in CARDS.values() if card.embedded}
    assert all(data in name for name, data in known.items())
    mine = replace(CARDS["ucf101-skip"], name="a/ucf101-skip", tiny="")
    assert (mine.dataset, replace(mine, data="ucf101").dataset) == ("", "ucf101")
