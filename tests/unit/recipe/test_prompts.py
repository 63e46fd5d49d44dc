"""Prompt lists: the right prompts in the right order, and one line that helps where there are none.

VBench's counts are those of its own prompt files (VBench, prompts/prompts_per_dimension).
"""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from skipdit_cli.assets import coco
from skipdit_cli.checkpoints import local
from skipdit_cli.embedded import captions, shipped
from skipdit_cli.errors import MissingAssetError, SkipditWarning, UsageError
from skipdit_cli.recipe import prompts
from skipdit_cli.storage import kept

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
NAMES = ["coco", "digits-image", "digits-video", "drawbench", "geneval", "parti", "vbench"]
GIVE = f"give a file of prompts, or one of {', '.join(NAMES)}"
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
    assert prompts.names() == NAMES


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
    found = prompts.read_prompts("vbench").texts
    assert len(twice) == 2
    assert len(found) == len(set(found)) == 944
    assert found == tuple(counted)  # the first time counts
    assert found[0] == "In a still frame, a stop sign"


@pytest.mark.parametrize(
    ("name", "known"), [("digits-video", captions.VIDEO), ("digits-image", captions.IMAGE)]
)
def test_the_digit_captions_are_those_the_embedded_models_know(name, known):
    found = prompts.read_prompts(name).texts
    assert len(found) == len(known)
    assert set(found) == set(known)


@pytest.mark.parametrize("name", ["digits-video", "digits-image"])
def test_every_ten_captions_ask_for_every_digit(name):
    found = prompts.read_prompts(name).texts
    for start in range(0, len(found), 10):
        assert [captions.digit(text) for text in found[start : start + 10]] == list(range(10))


@pytest.mark.parametrize(("first", "times"), [(10, {2, 3}), (20, {5}), (40, {10})])
def test_the_first_video_captions_ask_for_every_direction_as_often(first, times):
    found = prompts.read_prompts("digits-video").texts[:first]
    counted = Counter(captions.direction(text) for text in found)
    assert set(counted) == set(captions.DIRECTIONS.values())
    assert set(counted.values()) == times


def test_the_first_image_captions_are_the_plain_ones():
    assert prompts.read_prompts("digits-image").texts[:3] == ("a zero", "a one", "a two")


def test_a_file_has_one_prompt_per_line(written):
    path = written("# mine\n a red car \n\n  # not this\na boat\r\na red car\nno #1\n")
    assert prompts.read_prompts(path).texts == ("a red car", "a boat", "a red car", "no #1")


def test_a_file_may_begin_with_a_byte_order_mark(written):
    assert prompts.read_prompts(written("\ufeff# mine\na façade\n")).texts == ("a façade",)


def test_a_file_in_the_working_folder_needs_no_ending(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("a boat\n")
    monkeypatch.chdir(tmp_path)
    assert prompts.read_prompts("mine").texts == ("a boat",)


def test_a_part_of_vbench_is_a_list_too(entries, written):
    some = [entry for entry in entries if "color" in entry["dimension"]]
    path = written("\n".join(map(json.dumps, some)), "color.jsonl")
    assert prompts.read_prompts(path).texts == tuple(entry["prompt_en"] for entry in some)
    assert len(some) == 85


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts("vbnech", place="--prompts")
    assert str(caught.value) == "--prompts: unknown prompt list 'vbnech'; did you mean 'vbench'?"


@pytest.mark.parametrize("name", ["", "a" * 5000])
def test_what_cannot_be_a_file_is_an_unknown_name(name):
    with pytest.raises(UsageError, match="unknown prompt list"):
        prompts.read_prompts(name)


@pytest.mark.parametrize("name", ["gone.txt", "gone/prompts", "folder/", "nul\0.txt", "\ud800.txt"])
def test_a_file_that_cannot_be_read(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts(f"{tmp_path}/{name}", place="recipe x settings.prompts")
    assert str(caught.value).startswith(f"recipe x settings.prompts: prompt file {tmp_path}/")
    assert caught.value.fix == GIVE


def test_what_may_never_end_is_not_opened(tmp_path):
    """Whatever its ending."""
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, kind in (
        (tmp_path / "pipe", "pipe"),
        (tmp_path / "pipe.yaml", "pipe"),
        ("/dev/zero", "device"),
    ):
        with pytest.raises(UsageError) as caught:
            prompts.read_prompts(str(path), place="--prompts")
        assert str(caught.value) == (
            f"--prompts: prompt file {path}: is a {kind}, not a file; {GIVE}"
        )


def test_files_and_prompts_are_of_bounded_size(written, monkeypatch):
    path = written("a boat\n" * 100)
    monkeypatch.setattr(prompts, "MOST_BYTES", 700)
    assert len(prompts.read_prompts(path).texts) == 100
    monkeypatch.setattr(prompts, "MOST_BYTES", 699)
    monkeypatch.setattr(prompts, "_READ", {})
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts(path, place="--prompts")
    assert str(caught.value) == (
        f"--prompts: prompt file {path}: has 700 bytes, and at most 699 are read; {GIVE}"
    )
    assert prompts.checked("x" * 10_000) == "x" * 10_000
    with pytest.raises(
        UsageError, match=r"'x{40}\.\.\.' has 10001 characters; take 10000 or fewer"
    ):
        prompts.checked("x" * 10_001)


TWO = ("a dog, running", '#1 says "hi"')
FORMS = {
    "mine.csv": 'id,Prompt\r\n1,"a dog, running"\r\n\r\n2,"#1 says ""hi"""\r\n',
    "mine.tsv": 'caption\tid\na dog, running\t1\n"#1 says ""hi"""\t2\n',
    "list.json": json.dumps(list(TWO)),
    "objects.JSON": json.dumps([{"text": each, "id": 1} for each in TWO]),
    "vbench.json": json.dumps([{"prompt_en": each, "dimension": ["x"]} for each in TWO]),
    "text.jsonl": "\n\n".join(map(json.dumps, TWO)),
    "mine.jsonl": "\r\n".join(json.dumps({"caption": each}) for each in TWO) + "\n",
}


OWN = {
    "mine.csv": "Name, SEED ,prompt\nfirst, 3 ,a boat\n two ,+0,a dog\n",
    "mine.tsv": "seed\ttext\tname\n3\ta boat\tfirst\n0\ta dog\ttwo\n",
    "mine.json": json.dumps(
        [
            {"prompt": "a boat", "seed": 3, "name": "first"},
            {"name": "two", "seed": "0", "prompt": "a dog"},
        ]
    ),
    "mine.jsonl": '{"caption": "a boat", "seed": 3, "name": "first"}\n'
    '{"caption": "a dog", "seed": 0, "name": "two"}\n',
}


@pytest.mark.parametrize("name", OWN)
def test_a_prompt_may_have_a_seed_and_a_name(written, name):
    found = prompts.read_prompts(written(OWN[name], name))
    assert (found.texts, found.seeds, found.names) == (
        ("a boat", "a dog"),
        (3, 0),
        ("first", "two"),
    )
    assert found.taken(1) == found  # whatever is wanted


def test_without_these_columns_there_are_none(written):
    for name in FORMS:
        found = prompts.read_prompts(written(FORMS[name], name))
        assert found.seeds is found.names is None


@pytest.mark.parametrize(
    "cells", ['"GIGGLE" in thick letters', '"', '5" wide', 'in "thick" letters', '"cut off']
)
def test_quotes_of_a_tsv_that_do_not_pair_are_text(written, cells):
    content = f"Prompt\tCategory\n{cells}\tArtifacts\na dog\tAnimals\n"
    assert prompts.read_prompts(written(content, "a.tsv")).texts == (cells, "a dog")


def test_under_the_key_of_vbench_a_prompt_counts_once_with_a_seed(written):
    three = [{"prompt_en": "a", "seed": seed, "name": f"{i}"} for i, seed in enumerate((1, 2, 1))]
    found = prompts.read_prompts(written(json.dumps(three), "a.json"))
    assert (found.texts, found.seeds, found.names) == (("a", "a"), (1, 2), ("0", "1"))


@pytest.mark.parametrize("count", [*range(1, 45), 47, 100, 500, 700])
def test_fewer_than_all_of_vbench_are_of_every_dimension_as_many(entries, count):
    """Two prompts are there for two dimensions each, in entries of their own."""
    dimensions = {}
    for entry in entries:
        dimensions.setdefault(entry["prompt_en"], []).extend(entry["dimension"])
    taken = prompts.read_prompts("vbench").taken(count)
    counted = Counter(name for text in taken.texts[:count] for name in dimensions[text])
    numbers = [counted[name] for name in VBENCH]
    assert max(numbers) - min(numbers) <= 2  # by one, but for those two
    assert min(numbers) >= count // 11


def test_a_beginning_of_vbench_depends_on_no_count_and_all_of_it_is_in_vbench_s_order():
    whole = prompts.read_prompts("vbench")
    few = whole.taken(1)
    assert few == whole.taken(943)
    assert sorted(few.texts) == sorted(whole.texts)
    assert few.texts[:2] != whole.texts[:2]
    assert whole.taken(944) == whole.taken(4720) == whole
    assert whole.texts[0] == few.texts[0] == "In a still frame, a stop sign"


def test_a_column_of_dimensions_is_vbench_s_in_its_own_form_alone(written):
    lines = [{"caption": each, "dimension": [each[0]]} for each in ("a1", "a2", "b1")]
    found = prompts.read_prompts(written("\n".join(map(json.dumps, lines)), "a.jsonl"))
    assert found.taken(2).texts == ("a1", "a2", "b1")
    text = "\n".join(map(json.dumps, lines)).replace("caption", "prompt_en")
    found = prompts.read_prompts(written(text, "b.jsonl"))
    assert found.taken(2).texts == ("a1", "b1", "a2")


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("name", FORMS)
def test_the_forms_that_people_have(written, name, mark):
    assert prompts.read_prompts(written(mark + FORMS[name], name)).texts == TWO


@pytest.mark.parametrize(
    ("key", "count"), [*((key, 3) for key in prompts.KEYS[:3]), ("prompt_en", 2)]
)
def test_only_under_the_key_of_vbench_a_prompt_that_is_there_again_does_not_count(
    written, key, count
):
    """A list of captions may have one for each of its images."""
    three = [{key: each} for each in ("a boat", "a dog", "a boat")]
    lines = "\n".join(map(json.dumps, three))
    csv = "\n".join([key, *(entry[key] for entry in three)])
    for name, content in (("a.json", json.dumps(three)), ("a.jsonl", lines), ("a.csv", csv)):
        assert len(prompts.read_prompts(written(content, name)).texts) == count
    assert len(prompts.read_prompts(written(json.dumps(["a", "b", "a"]), "b.json")).texts) == 3


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        ("", "mine.txt", "there is no text in it"),
        ("# only this\n\n", "mine.txt", "there is no text in it"),
        ("a boat\n" + "b\0at\n", "mine.txt", "2. prompt: 'b\\x00at' has the character U+0000"),
        (b"caf\xe9\n", "mine.txt", f"is not text in UTF-8; {GIVE}"),
        ("a boat".encode("utf-16"), "mine.txt", f"is not text in UTF-8; {GIVE}"),
        ("- a boat\n", "mine.yaml", "files that end in .yaml are not read"),
        ("", "mine.csv", "there is no text in it"),
        ("prompt\n", "mine.csv", "there is no text in it"),
        ("a boat\na dog\n", "mine.csv", "its heading has no text (a boat)"),
        ("prompt;id\na boat;1\n", "mine.csv", "its heading has no text (prompt;id)"),
        ("text,prompt\na,b\n", "mine.csv", "its heading has text and prompt"),
        ("prompt,Prompt\na,b\n", "mine.csv", "its heading has prompt and prompt"),
        ("prompt\na dog, running\n", "mine.csv", "line 2 has 2 cells where the heading has 1"),
        ("id,prompt\n1\n", "mine.csv", "line 2 has 1 cells where the heading has 2"),
        ("id,prompt\n1, \n", "mine.csv", "line 2 has ' ' for a prompt"),
        ('prompt\n"a boat\n', "mine.csv", "line 2 cannot be read (unexpected end of data)"),
        ('prompt\n"a" boat\n', "mine.csv", "line 2 cannot be read ("),
        ("prompt\n" + "x" * 200_000, "mine.csv", "line 2 cannot be read (field larger than"),
        ("", "mine.json", "it is not JSON ("),
        ("[]", "mine.json", "there is no text in it"),
        ('{"prompt": "a boat"}', "mine.json", "it is not a list in JSON"),
        ('"a boat"', "mine.json", "it is not a list in JSON"),
        ("[" * 100_000, "mine.json", "it is not JSON (it is nested too deeply)"),
        ('["a boat", 3]', "mine.json", "entry 2 has 3 for a prompt"),
        ('["a boat", ""]', "mine.json", "entry 2 has '' for a prompt"),
        ('["a", "b\\ud800"]', "mine.json", "2. prompt: 'b\\ud800' has the character U+D800"),
        ('["a", {"prompt": "b"}]', "mine.json", "entry 2 has {'prompt': 'b'} for a prompt"),
        ('[{"prompt": "a"}, "b"]', "mine.json", "entry 2 is 'b', without 'prompt'"),
        ('[{"prompt": "a"}, {"text": "b"}]', "mine.json", "entry 2 is {'text': 'b'}, without"),
        ('[{"prompt": "a", "text": "b"}]', "mine.json", "entry 1 has prompt and text"),
        ('[{"name": "a"}]', "mine.json", "entry 1 has no text ({'name': 'a'})"),
        ('[{"prompt": "a", "prompt": "b"}]', "mine.json", "it is not JSON (a key occurs twice)"),
        ('[{"prompt": ["a"]}]', "mine.json", "entry 1 has ['a'] for a prompt"),
        (f"[{'1' * 5000}]", "mine.json", "it is not JSON (Exceeds the limit"),
        ("a boat\n", "mine.jsonl", "line 1 is not JSON ("),
        ('\n{"prompt_en": "a"}\n{"prompt_en": 3}\n', "mine.jsonl", "line 3 has 3 for a prompt"),
        ("[]\n", "mine.jsonl", "line 1 has no text ([])"),
        ("null\n", "mine.jsonl", "line 1 has no text (None)"),
        ("prompt,seed\na,1\nb,\n", "mine.csv", "line 3: seed '' is not a whole number"),
        ("prompt,seed\na,-1\n", "mine.csv", "line 2: seed -1 is too small"),
        ("prompt,seed\na,9e9\n", "mine.csv", "line 2: seed '9e9' is not a whole number"),
        ("prompt,seed,Seed\na,1,2\n", "mine.csv", "its heading has seed twice"),
        ("prompt,name\na, \n", "mine.csv", "line 2 has ' ' for a name"),
        ('[{"prompt": "a", "seed": true}]', "mine.json", "entry 1: seed 'True' is not a whole"),
        ('[{"prompt": "a", "name": 7}]', "mine.json", "entry 1 has 7 for a name"),
        ('[{"prompt": "a", "name": "b\\u0000"}]', "mine.json", "'b\\x00' has the character U+0000"),
        (
            '{"prompt": "a"}\n{"prompt": "b", "seed": 2}\n',
            "mine.jsonl",
            "line 1 is {'prompt': 'a'}, without 'seed'",
        ),
    ],
)
def test_a_file_without_prompts(content, name, problem, written):
    path = written(content, name)
    with pytest.raises(UsageError) as caught:
        prompts.read_prompts(path, place="--prompts")
    assert str(caught.value).startswith(f"--prompts: prompt file {path}: {problem}")
    assert caught.value.fix
    assert "\n" not in str(caught.value)


def test_coco_has_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    with pytest.raises(MissingAssetError) as caught:
        prompts.read_prompts("coco", place="recipe table4")
    assert str(caught.value) == (
        "recipe table4: the prompt list coco is not here; "
        "run `skipdit download coco`, or give a file of prompts"
    )
    path = local.home() / "prompts" / "coco.txt"
    path.parent.mkdir()
    path.write_text("A cat on a mat.\nA dog.\nA cat on a mat.\n")  # one line per image
    origin = {"image_ids": [1, 2, 3], "list": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_bytes(kept.sealed_json(origin, coco.IMAGES, of="coco"))
    assert prompts.read_prompts("coco").texts == ("A cat on a mat.", "A dog.", "A cat on a mat.")
    path.write_text(path.read_text().replace("dog", "hog"))
    with (
        pytest.warns(SkipditWarning, match=r"coco\.txt: was changed or damaged"),
        pytest.raises(MissingAssetError, match="run `skipdit download coco`"),
    ):
        prompts.read_prompts("coco")


def test_reading_a_list_takes_no_torch():
    code = "import sys; from skipdit_cli.recipe import prompts; prompts.read_prompts('vbench'); "
    code += "raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
