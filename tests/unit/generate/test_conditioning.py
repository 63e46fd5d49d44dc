"""Classes and prompts of samples: in turn, drawn, or none."""

from dataclasses import replace

import pytest

from skipdit_cli.errors import MissingAssetError
from skipdit_cli.generate import conditioning, rng
from skipdit_cli.recipe.runs import make_run

RUN = make_run("digits", settings={"num_samples": 4, "seed": 3})


def classes(run, count):
    return [conditioning.meta(run, i)["class"] for i in range(count)]


def test_classes_come_in_turn_or_are_drawn_from_seed_and_index():
    assert classes(replace(RUN, classes=(7, 2, 5)), 5) == [7, 2, 5, 7, 2]
    drawn = classes(RUN, 50)
    assert drawn == [rng.choice(10, seed=3, index=i) for i in range(50)]
    assert set(drawn) == set(range(10))
    assert drawn != classes(replace(RUN, seed=4), 50)


def test_an_unconditional_model_has_none(tmp_path):
    run = make_run("taichi")
    assert conditioning.meta(run, 0) == {}
    assert conditioning.of_batch(run, range(2), root=tmp_path) == ({}, {})


def test_the_null_half_has_the_null_class(tmp_path):
    given, null = conditioning.of_batch(replace(RUN, classes=(7, 2)), range(1, 4), root=tmp_path)
    assert given["class_labels"].tolist() == [2, 7, 2]
    assert null["class_labels"].tolist() == [10, 10, 10]


def test_prompts_come_in_turn():
    run = make_run("captioned-digits", settings={"prompts": ("a one", "a two")})
    assert [conditioning.meta(run, i)["prompt"] for i in range(3)] == ["a one", "a two", "a one"]


def test_a_text_model_without_prompts_says_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    run = make_run("hunyuan-dit")  # planned without them
    assert run.prompts is None
    with pytest.raises(MissingAssetError, match="no prompts; run `skipdit download coco`"):
        conditioning.prepare(run, tmp_path)
