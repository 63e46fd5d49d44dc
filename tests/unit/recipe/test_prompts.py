"""Prompt lists: the right prompts in the right order, and one line that helps where there are none.

VBench's counts are those of its own prompt files (VBench, prompts/prompts_per_dimension).
"""

import json
import subprocess
import sys
from collections import Counter

import pytest

from skipdit_cli.checkpoints import local
from skipdit_cli.embedded import captions, shipped
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.recipe import prompts

VBENCH = {
    "subject_consistency": 72,
    "background_consistency": 86,
    "temporal_flickering": 75,
    "motion_smoothness": 72,
    "dynamic_degree": 72,
    "aesthetic_quality": 93,
    "imaging_quality": 93,
    "object_class": 79,
    "multiple_objects": 82,
    "human_action": 100,
    "color": 85,
    "spatial_relationship": 84,
    "scene": 86,
    "appearance_style": 90,
    "temporal_style": 100,
    "overall_consistency": 93,
}
DESCRIBED = ("object_class", "multiple_objects", "color", "spatial_relationship", "scene")


@pytest.fixture(scope="module")
def entries():
    text = (shipped.recipes() / "data" / "vbench.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def written(tmp_path):
    def write(content, name="mine.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_the_lists_there_are():
    assert prompts.names() == ["coco", "digits-image", "digits-video", "vbench"]


def test_vbench_has_its_entries_in_each_dimension(entries):
    assert len(entries) == 946
    assert Counter(name for entry in entries for name in entry["dimension"]) == VBENCH
    assert sum(VBENCH.values()) * 5 == 6810  # scores of a whole evaluation, five clips per prompt


def test_vbench_says_what_its_scorers_look_for(entries):
    for entry in entries:
        (first, *_), found = entry["dimension"], entry.get("auxiliary_info", {})
        assert list(found) == ([first] if first in (*DESCRIBED, "appearance_style") else [])


def test_the_two_prompts_that_vbench_has_twice_are_made_once(entries):
    counted = Counter(entry["prompt_en"] for entry in entries)
    twice = {prompt for prompt, times in counted.items() if times > 1}
    assert {entry["dimension"][0] for entry in entries if entry["prompt_en"] in twice} == {
        "appearance_style",
        "overall_consistency",
    }
    found = prompts.read_prompts("vbench")
    assert len(twice) == 2
    assert len(found) == len(set(found)) == 944
    assert found == tuple(counted)  # the first time counts
    assert found[0] == "In a still frame, a stop sign"


@pytest.mark.parametrize(
    ("name", "known"), [("digits-video", captions.VIDEO), ("digits-image", captions.IMAGE)]
)
def test_the_digit_captions_are_those_the_embedded_models_know(name, known):
    found = prompts.read_prompts(name)
    assert len(found) == len(known)
    assert set(found) == set(known)


@pytest.mark.parametrize("name", ["digits-video", "digits-image"])
def test_every_ten_captions_ask_for_every_digit(name):
    found = prompts.read_prompts(name)
    for start in range(0, len(found), 10):
        assert [captions.digit(text) for text in found[start : start + 10]] == list(range(10))


@pytest.mark.parametrize(("first", "times"), [(10, {2, 3}), (20, {5}), (40, {10})])
def test_the_first_video_captions_ask_for_every_direction_as_often(first, times):
    found = prompts.read_prompts("digits-video")[:first]
    counted = Counter(captions.direction(text) for text in found)
    assert set(counted) == set(captions.DIRECTIONS.values())
    assert set(counted.values()) == times


def test_the_first_image_captions_are_the_plain_ones():
    assert prompts.read_prompts("digits-image")[:3] == ("a zero", "a one", "a two")


def test_a_file_has_one_prompt_per_line(written):
    path = written("# mine\n a red car \n\n  # not this\na boat\r\na red car\nno #1\n")
    assert prompts.read_prompts(path) == ("a red car", "a boat", "a red car", "no #1")


def test_a_file_may_begin_with_a_byte_order_mark(written):
    assert prompts.read_prompts(written("\ufeff# mine\na façade\n")) == ("a façade",)


def test_a_file_in_the_working_folder_needs_no_ending(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("a boat\n")
    monkeypatch.chdir(tmp_path)
    assert prompts.read_prompts("mine") == ("a boat",)


def test_a_part_of_vbench_is_a_list_too(entries, written):
    some = [entry for entry in entries if "color" in entry["dimension"]]
    path = written("\n".join(map(json.dumps, some)), "color.jsonl")
    assert prompts.read_prompts(path) == tuple(entry["prompt_en"] for entry in some)
    assert len(some) == 85


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts("vbnech", place="--prompts")
    assert str(caught.value) == "--prompts: unknown prompt list 'vbnech'; did you mean 'vbench'?"


@pytest.mark.parametrize("name", ["", "a" * 5000])
def test_what_cannot_be_a_file_is_an_unknown_name(name):
    with pytest.raises(UsageError, match="unknown prompt list"):
        prompts.read_prompts(name)


@pytest.mark.parametrize("name", ["gone.txt", "gone/prompts", "folder/", "nul\0.txt"])
def test_a_file_that_cannot_be_read(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts(f"{tmp_path}/{name}", place="recipe x settings.prompts")
    assert str(caught.value).startswith(f"recipe x settings.prompts: prompt file {tmp_path}/")
    assert caught.value.fix == (
        "give a text file, or one of coco, digits-image, digits-video, vbench"
    )


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        ("", "mine.txt", "has no prompt"),
        ("# only this\n\n", "mine.txt", "has no prompt"),
        (b"caf\xe9\n", "mine.txt", "is not text in UTF-8"),
        ("a boat\n", "mine.jsonl", 'has a line that is not {"prompt_en": "...", ...}'),
        ('{"prompt": "a boat"}\n', "mine.jsonl", 'has a line that is not {"prompt_en"'),
        ('{"prompt_en": 3}\n', "mine.jsonl", 'has a line that is not {"prompt_en"'),
        ("[]\n", "mine.jsonl", 'has a line that is not {"prompt_en"'),
    ],
)
def test_a_file_without_prompts(content, name, problem, written):
    path = written(content, name)
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts(path, place="--prompts")
    assert str(caught.value).startswith(f"--prompts: prompt file {path}")
    assert problem in str(caught.value)
    assert caught.value.fix


def test_coco_has_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    with pytest.raises(MissingAssetError) as caught:
        prompts.read_prompts("coco", place="recipe table4")
    assert str(caught.value) == (
        "recipe table4: the COCO captions are not here; "
        "run `skipdit download coco`, or give a file of prompts"
    )
    path = local.home() / "prompts" / "coco.txt"
    path.parent.mkdir()
    path.write_text("A cat on a mat.\nA dog.\nA cat on a mat.\n")  # one line per image
    assert prompts.read_prompts("coco") == ("A cat on a mat.", "A dog.", "A cat on a mat.")


def test_reading_a_list_takes_no_torch():
    code = "import sys; from skipdit_cli.recipe import prompts; prompts.read_prompts('vbench'); "
    code += "raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
