"""Settings are read in one way, whoever writes them."""

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.recipe.settings import setting


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("num_samples", "8", 8),
        ("seed", 0, 0),
        ("steps", 250, "250"),
        ("steps", "ddim50", "ddim50"),
        ("steps", "050", "50"),
        ("steps", "010,05", "10,5"),
        ("steps", "ddim50+1", "ddim50+1"),
        ("prompts", "vbench", "vbench"),
        ("negative_prompt", "a red car", "a red car"),
        ("negative_prompt", "", ""),  # the empty one, where the model may have another
        ("negative_prompt", None, None),  # the model's own
        ("sampler", "ddpm", "ddpm"),
        ("weights", "random", "random"),
        ("precision", "tf32", "tf32"),
        ("decode_precision", "bfloat16", "bfloat16"),
        ("guidance", "7", 7.0),
        ("guidance", None, None),
        ("guidance", "none", None),
        ("guidance", 1.0, 1.0),
    ],
)
def test_values(key, value, expected):
    found = setting(key, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_sampels", 3, "HERE: unknown setting 'num_sampels'; did you mean 'num_samples'?"),
        (
            "num_samples",
            10**10,
            "HERE: num_samples 10000000000 is too many; num_samples is 10000000 or less",
        ),
        (
            "num_samples",
            0,
            "HERE: num_samples 0 is too small; num_samples is 1 or more",
        ),
        (
            "batch_size",
            1.5,
            "HERE: batch_size '1.5' is not a whole number; batch_size is 1 or more",
        ),
        ("negative_prompt", 3, "HERE: 3 is not text; write it in quotes"),
        ("negative_prompt", "a\ud800", "HERE: 'a\\ud800' has the character U+D800, which is not"),
        ("num_samples", True, "HERE: num_samples 'True' is not a whole number; "),
        (
            "weights",
            "a.pt",
            "HERE: weights 'a.pt' cannot be a setting; write random, or give a file with --weights",
        ),
        ("seed", -1, "HERE: seed -1 is too small; seed is 0 or more"),
        ("sampler", "ddmp", "HERE: unknown sampler 'ddmp'; did you mean 'ddpm'?"),
        ("precision", "float61", "HERE: unknown precision 'float61'; did you mean 'float16'?"),
        ("precision", 16, "HERE: unknown precision '16'"),
        (
            "decode_precision",
            "tf23",
            "HERE: unknown decode_precision 'tf23'; did you mean 'tf32'?",
        ),
        (
            "guidance",
            0.5,
            "HERE: guidance '0.5' is not a scale of 1 or more; write none for no guidance",
        ),
        (
            "guidance",
            "inf",
            "HERE: guidance 'inf' is not a scale of 1 or more; write none for no guidance",
        ),
        (
            "guidance",
            "nan",
            "HERE: guidance 'nan' is not a scale of 1 or more; write none for no guidance",
        ),
        ("steps", 0, "HERE: cannot take steps '0' of 1000 training steps; "),
        ("steps", "ddim49", "HERE: cannot take steps 'ddim49' of 1000 training steps; "),
        ("steps", "ddim50+20", "HERE: cannot take steps 'ddim50+20' of 1000 training steps; "),
    ],
)
def test_mistakes_say_place_value_and_fix(key, value, message):
    with pytest.raises(UsageError) as caught:
        setting(key, value, place="HERE")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_samples", "1_000"),
        ("num_samples", "²"),
        ("num_samples", "٣"),
        ("num_samples", "9" * 5000),
        ("batch_size", 10**9),
        ("seed", 2**63),
        ("seed", "9" * 5000),
        ("steps", "²"),
        ("steps", "ddim²"),
        ("steps", "9" * 5000),
        ("steps", "10,٣"),
        ("guidance", "1_0"),
        ("guidance", "9" * 5000),
    ],
)
def test_numbers_are_those_that_people_write(key, value):
    with pytest.raises(UsageError) as caught:
        setting(key, value, place="HERE")
    assert str(caught.value).startswith("HERE: ")
    assert len(str(caught.value)) < 800


def test_the_highest_seed_is_a_seed():
    assert setting("seed", str(2**63 - 1)) == 2**63 - 1
    assert setting("seed", "0" * 40 + "7") == 7
