"""What doctor says about downloads, recipes, packages and settings."""

from importlib import metadata

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.checkpoints.inventory import coco_list, parts
from skipdit_cli.report import doctor


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    return tmp_path


def place(*names, only=()):
    """Put something sound where the parts of checkpoints belong."""
    for name in names:
        for part in parts(catalog.card(name)):
            if only and part.name not in only:
                continue
            part.folder.mkdir(parents=True, exist_ok=True)
            (part.folder / "config.json").write_text("{}")
            (part.folder / "tokenizer_config.json").write_text("{}")
            (part.folder / "vocab.txt").write_text("a\n")
            save_file({"a": torch.ones(9)}, part.folder / local.WEIGHTS_FILE)


def told(checks, name):
    (found,) = ((state, detail) for check, state, detail in checks if check == name)
    return found


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("ucf101", "denoiser, vae absent: skipdit download ucf101 (about 3.04 GB)"),
        (
            "latte-skip",
            "denoiser, vae, tokenizer, text_encoder absent: "
            "skipdit download latte-skip --accept-license (about 28.20 GB)",
        ),
    ],
)
def test_an_absent_model_is_told_with_the_command_and_the_size(name, detail):
    assert told(doctor.checkpoints(), name) == ("absent", detail)


def test_of_an_incomplete_model_only_the_rest_is_counted():
    place("ucf101", only=("denoiser",))
    detail = "denoiser here; vae absent: skipdit download ucf101 (about 335.0 MB)"
    assert told(doctor.checkpoints(), "ucf101") == ("incomplete", detail)
    place("taichi")  # the same VAE
    assert told(doctor.checkpoints(), "ucf101") == ("ok", "denoiser, vae here")


def test_a_damaged_part_is_told_with_what_is_wrong():
    place("ucf101")
    (part, _) = parts(catalog.card("ucf101"))
    (part.folder / "config.json").write_text("{")
    state, detail = told(doctor.checkpoints(), "ucf101")
    assert state == "broken"
    assert detail == (
        "denoiser (config.json cannot be read) damaged; vae here: skipdit download ucf101 "
        "(about 2.70 GB)"
    )


def test_the_command_accepts_the_licence_where_that_is_asked_for():
    told_of = {name.removeprefix("metrics: "): detail for name, _, detail in doctor.metrics()}
    assert told_of["imagenet256"].endswith(
        ": skipdit download --metrics imagenet256 --accept-license (2.04 GB)"
    )
    assert told_of["i3d"].endswith(": skipdit download --metrics i3d (51.2 MB)")


def test_every_released_model_has_a_line():
    released = [card.name for card in catalog.CARDS.values() if not card.embedded]
    assert [check for check, _, _ in doctor.checkpoints()] == released


def test_a_recipe_names_what_it_lacks_and_one_command(monkeypatch):
    assert told(doctor.recipes(), "recipe table8") == (
        "tiny only",
        "lacks dit-xl-2, dit-xl-2-skip, inception, imagenet256: "
        "skipdit download --recipe table8 --accept-license "
        "(about 16.56 GB)",  # 2.70 + 11.40, one VAE of 0.335 for both, 0.096 + 2.037 for metrics
    )
    place("dit-xl-2", "dit-xl-2-skip")
    assert told(doctor.recipes(), "recipe table8") == (
        "incomplete",  # it can generate
        "lacks inception, imagenet256: skipdit download --recipe table8 --accept-license "
        "(about 2.13 GB)",
    )
    monkeypatch.setattr(assets, "state", lambda name: ("here", ""))
    assert told(doctor.recipes(), "recipe table8") == ("ok", "both scales can run")


def test_a_recipe_of_text_needs_components_and_captions():
    state, lacks = told(doctor.recipes(), "recipe table4")
    assert state == "tiny only"
    assert lacks.startswith("lacks hunyuan-dit, coco, inception, coco-val2014, clip, alexnet: ")
    assert lacks.endswith("skipdit download --recipe table4 --accept-license (about 22.27 GB)")
    place("hunyuan-dit", only=("denoiser", "vae", "tokenizer", "tokenizer_2"))
    coco_list().parent.mkdir()
    coco_list().write_text("a\n")
    _, detail = told(doctor.recipes(), "recipe table4")
    assert detail.startswith("lacks hunyuan-dit (text_encoder, text_encoder_2), inception, ")


def test_a_package_that_is_missing_is_broken(monkeypatch):
    assert told(doctor.environment(), "transformers")[0] == "ok"
    version = metadata.version

    def without(name):
        if name == "transformers":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    state, detail = told(doctor.environment(), "transformers")
    assert (state, "missing" in detail) == ("broken", True)


def test_settings_of_downloads_are_those_that_will_act(home, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checks = doctor.settings()
    assert told(checks, "HF_ENDPOINT") == ("ok", "https://mirror.example")
    assert told(checks, "HF_HUB_OFFLINE") == ("ok", "set: nothing is fetched")
    assert told(checks, "SKIPDIT_HOME")[1].startswith(f"{home}, ")
