"""One's own data: which files count, in which classes or with which captions, and each mistake."""

import re
from dataclasses import replace

import pytest

from skipdit_cli.checkpoints import catalog
from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.train import files
from skipdit_cli.train.files import Item, listed

IMAGES, CLIPS = catalog.card("digits"), catalog.card("moving-digits")
PAINTED, CAPTIONED = catalog.card("painted-digits"), catalog.card("captioned-digits")
FREE = catalog.card("taichi")  # clips without classes


@pytest.fixture
def put(tmp_path):
    """put("a/b.png", ...) makes files, empty ones: nothing here opens them. The folder of all."""

    def make(*names, **texts):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for name, text in texts.items():
            (tmp_path / "data" / f"metadata.{name}").write_text(text, encoding="utf-8")
        return tmp_path / "data"

    return make


def test_classes_are_sorted_folders_and_their_files_lie_at_any_depth(put):
    data = put(
        "dog/b.PNG", "dog/a.jpg", "cat/deep/er/1.webp", "cat/z.jpeg", "cat/notes.txt",
        ".git/x.png", "cat/.hidden.png", "dog/.cache/x.png",
    )  # fmt: skip
    items, classes = listed(data, IMAGES)
    assert classes == ("cat", "dog")
    assert items == (
        Item(data / "cat/deep/er/1.webp", 0),
        Item(data / "cat/z.jpeg", 0),
        Item(data / "dog/a.jpg", 1),
        Item(data / "dog/b.PNG", 1),
    )


def test_more_or_fewer_classes_than_the_model_has_are_no_mistake(put):
    data = put(*(f"{i:02d}/a.png" for i in range(12)))
    assert len(listed(data, IMAGES).classes) == 12


def test_clips_are_files_or_folders_of_frames(put):
    data = put("run/a.mp4", "run/b/frame1.png", "run/b/frame2.png", "walk/c.mkv")
    items, classes = listed(data, CLIPS)
    assert classes == ("run", "walk")
    assert items == (
        Item(data / "run/a.mp4", 0),
        Item(data / "run/b", 0),
        Item(data / "walk/c.mkv", 1),
    )


def test_an_unconditional_model_takes_any_folder(put):
    data = put("b.avi", "more/a.webm")
    assert listed(data, FREE) == ((Item(data / "b.avi"), Item(data / "more/a.webm")), ())
    free = replace(IMAGES, family="latte", arguments={})
    data = put("x/b.png", "a.png")
    assert [item.path.name for item in listed(data, free).items] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("csv", 'file_name,text\na.png,"a one, thin"\nsub/b.jpg,a two\n'),
        ("csv", 'caption,path\n"a one, thin",a.png\n a two ,./sub/b.jpg\n'),
        (
            "jsonl",
            '{"file_name": "a.png", "text": "a one, thin"}\n\n'
            '{"file_name": "sub/b.jpg", "text": "a two", "width": 3}\n',
        ),
    ],
)
def test_captions_stand_in_a_table(put, ending, text):
    data = put("a.png", "sub/b.jpg", "c.png", **{ending: text})
    expected = (
        Item(data / "a.png", None, "a one, thin"),
        Item(data / "sub/b.jpg", None, "a two"),
    )
    assert listed(data, PAINTED) == (expected, ())
    other = (data / f"metadata.{ending}").rename(data / f"mine.{ending}")
    assert listed(other, PAINTED) == (expected, ())


def test_captions_of_clips_and_of_folders_of_frames(put):
    data = put("a.mkv", "b/1.png", csv="path,caption\na.mkv,a one\nb,a two\n")
    paths = [item.path for item in listed(data, CAPTIONED).items]
    assert paths == [data / "a.mkv", data / "b"]


def test_a_file_may_have_several_captions(put):
    data = put("a.png", csv="path,caption\na.png,a one\na.png,the digit one\n")
    assert [item.caption for item in listed(data, PAINTED).items] == ["a one", "the digit one"]


def test_files_beside_class_folders_are_told_of(put):
    data = put("a/1.png", "b/1.png", "loose.png", "README.md")
    with pytest.warns(SkipditWarning, match=r"1 files beside the class folders .* loose\.png"):
        assert len(listed(data, IMAGES).items) == 2


MISTAKES = {
    "nothing": (IMAGES, [], {}, r"--data .*/none: no such folder; give that of the data"),
    "empty": (FREE, ["readme.txt"], {}, r"/data: holds no videos; give a folder of \.mp4"),
    "no images": (IMAGES, ["a/1.png", "b/x.txt"], {}, r"data/b: holds no images; give a folder of"),
    "no classes": (
        IMAGES,
        ["1.png", "2.png"],
        {},
        r"--data .*: has no classes, and digits takes two or more; give a folder that has a folder "
        "of images for each class",
    ),
    "one class": (IMAGES, ["a/1.png"], {}, "has one class, a, and digits takes two or more"),
    "clips": (IMAGES, ["a/1.mp4", "b/1.mp4"], {}, "data/a: holds 1 clips, and digits makes images"),
    "no table": (PAINTED, ["a.png"], {}, r"has no metadata\.csv or metadata\.jsonl, which tells"),
    "no captions": (
        PAINTED,
        ["a.png"],
        {"csv": "path,label\na.png,1\n"},
        r"metadata\.csv: its heading has no text \(path, label\); name one column or key prompt,",
    ),
    "an empty caption": (
        PAINTED,
        ["a.png"],
        {"csv": 'path,caption\na.png,a one\na.png,""\n'},
        r"metadata\.csv: line 3 has '' for a caption; write text there",
    ),
    "no files": (PAINTED, [], {"csv": "caption\na one\n"}, r"csv line 2: names no file; give it"),
    "absent": (
        PAINTED,
        ["a.png"],
        {"jsonl": '{"path": "b.png", "text": "a one"}'},
        r"metadata\.jsonl line 1: b\.png is not there; correct it, or leave it out",
    ),
    "outside": (
        PAINTED,
        ["a.png"],
        {"csv": "path,text\nsub/../../a.png,a one\n"},
        r"line 2: sub/\.\./\.\./a\.png is outside .*data; put the table above its files",
    ),
    "absolute": (PAINTED, [], {"csv": "path,text\n/etc/hosts,a one\n"}, "/etc/hosts is outside"),
    "a clip": (
        PAINTED,
        ["a.mp4"],
        {"csv": "path,text\na.mp4,a one\n"},
        r"line 2: a\.mp4 is none of the images that painted-digits takes; give files in \.jpg",
    ),
    "an image": (
        CAPTIONED,
        ["a.png"],
        {"csv": "path,text\na.png,a one\n"},
        r"line 2: a\.png is none of the clips that captioned-digits takes; give files in \.mp4",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(put, tmp_path, name):
    chosen, names, texts, message = MISTAKES[name]
    (tmp_path / "data").mkdir()
    data = put(*names, **texts)
    with pytest.raises(UsageError) as caught:
        listed(tmp_path / "none" if name == "nothing" else data, chosen)
    assert re.search(message, str(caught.value)), caught.value


def test_a_table_is_for_text_models(put):
    table = put("a.png", csv="path,text\na.png,a one\n") / "metadata.csv"
    with pytest.raises(UsageError, match="is a file, and digits takes no captions; give a folder"):
        listed(table, IMAGES)


def test_a_table_may_be_larger_than_a_list_of_prompts(put, monkeypatch):
    monkeypatch.setattr(files.prompts, "MOST_BYTES", 10)
    data = put("a.png", csv="path,text\na.png,a one\n")
    assert len(listed(data, PAINTED).items) == 1
