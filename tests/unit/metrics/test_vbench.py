"""VBench: the total, what has to be there before it starts, and what is kept; without VBench.

An executable that answers as the worker would takes the interpreter's place.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import pytest

from skipdit_cli.errors import (
    IncompleteError,
    MissingAssetError,
    SkipditError,
    SkipditWarning,
    StoreError,
    UsageError,
)
from skipdit_cli.metrics import vbench
from skipdit_cli.metrics.vbench import run, table, worker

GOLDEN = Path(__file__).parents[2] / "parity" / "golden" / "metrics" / "vbench"
SCORES = json.loads((GOLDEN / "scores.json").read_text())
DIMENSIONS = list(vbench.DIMENSIONS)
DETECTOR = ["object_class", "multiple_objects", "color", "spatial_relationship"]
FLICKER = "temporal_flickering"


# The total


@pytest.mark.parametrize(
    ("key", "round_raw"), [("official_script", False), ("videosys_round4_first", True)]
)
def test_the_official_scripts_agree(key, round_raw):
    expected = SCORES["made_up"][key]
    ours = vbench.total(SCORES["made_up"]["raw"], round_raw=round_raw)
    assert ours == pytest.approx({k: expected[k] for k in ours}, rel=1e-12)
    assert set(ours) == {"quality", "semantic", "total"}


def test_the_two_scripts_differ():
    raw = SCORES["made_up"]["raw"]
    rounded = vbench.total(raw, round_raw=True)
    assert abs(vbench.total(raw)["total"] - rounded["total"]) > 1e-5


@pytest.mark.parametrize("row", SCORES["leaderboard_rows"])
def test_rows_of_the_leaderboard(row):
    expected = SCORES["leaderboard_rows"][row]
    ours = vbench.total(expected["raw"])
    assert ours == pytest.approx(expected["formula"], rel=1e-9)
    published = expected["published_percent"]
    tolerance = SCORES["leaderboard_tolerance_percent_points"]
    assert {k: 100 * v for k, v in ours.items()} == pytest.approx(published, abs=tolerance)


def test_nothing_is_clamped():
    zero = vbench.total(dict.fromkeys(DIMENSIONS, 0.0))
    expected = SCORES["limits"]["all_zero"]
    assert zero == pytest.approx({k: expected[k] for k in zero}, rel=1e-12)
    best = {name: each.high for name, each in vbench.DIMENSIONS.items()}
    assert vbench.total(best) == pytest.approx({"quality": 1, "semantic": 1, "total": 1})
    smooth = vbench.total(best | {"motion_smoothness": 1.0})["quality"]
    assert smooth == pytest.approx((5.5 + SCORES["limits"]["motion_1.0"]) / 6.5)


def test_a_total_by_hand():
    """Quality is dynamic_degree alone, which counts half; every semantic dimension is half way."""
    raw = {
        name: each.low if each.group == "quality" else (each.low + each.high) / 2
        for name, each in vbench.DIMENSIONS.items()
    }
    ours = vbench.total(raw | {"dynamic_degree": 1.0})
    quality = 0.5 / 6.5
    assert ours == pytest.approx(
        {"quality": quality, "semantic": 0.5, "total": (4 * quality + 0.5) / 5}
    )


def test_missing_dimensions_are_named_and_never_zero():
    with pytest.raises(IncompleteError) as caught:
        vbench.total(SCORES["missing_detectron_dims"]["raw"])
    assert str(caught.value) == (
        f"the total of VBench lacks 4 of 16 dimensions: {', '.join(DETECTOR)}; "
        "score all of them first"
    )


def test_a_score_that_is_none_is_refused():
    with pytest.raises(SkipditError, match="scene is nan"):
        vbench.total(SCORES["made_up"]["raw"] | {"scene": math.nan})


def test_the_table():
    assert SCORES["dimension_order"] == DIMENSIONS
    assert [name for name in DIMENSIONS if vbench.DIMENSIONS[name].detector] == DETECTOR
    assert {name: len(table.members(name)) for name in vbench.GROUPS} == {
        "quality": 7,
        "semantic": 9,
    }
    assert len(vbench.PARTS) == len(set(vbench.PARTS)) == 18
    assert sum(map(len, table.prompts().values())) * 5 == 6810
    assert len(table.all_prompts()) == 944


# What vbench wrote


@pytest.mark.parametrize(("name", "folder"), [("custom_tf", "custom"), ("std_tf", "standard")])
def test_results_are_read_by_file_name(name, folder):
    text = (GOLDEN / "results" / f"{name}_eval_results.json").read_text()
    files = {path.name for path in (GOLDEN / f"{folder}_videos").iterdir()}
    ours = worker.read(text, FLICKER, files)
    assert set(ours["videos"]) == files
    assert ours["score"] == pytest.approx(sum(ours["videos"].values()) / len(files), abs=1e-12)
    shuffled = json.loads(text)
    shuffled[FLICKER][1].reverse()
    assert worker.read(json.dumps(shuffled), FLICKER, files) == ours


def written(score, **videos):
    entries = [{"video_path": f"/a/{name}.mp4", "video_results": v} for name, v in videos.items()]
    return json.dumps({"color": [score, entries], FLICKER: [score, entries]})


def test_a_clip_that_vbench_skipped_is_an_error():
    text = written(0.5, a=0.5)
    with pytest.raises(RuntimeError, match=r"1 clips have no score, the first is b\.mp4"):
        worker.read(text, FLICKER, ["a.mp4", "b.mp4"])
    read = worker.read(text, "color", ["a.mp4", "b.mp4"])  # the object was not found in b
    assert read == {"score": 0.5, "videos": {"a.mp4": 0.5}}
    with pytest.raises(RuntimeError, match="the score is nan"):
        worker.read(written(math.nan), FLICKER, [])


def test_what_is_missing_and_what_failed():
    """vbench wraps what an import raises; a full disk is nothing to download."""
    wrapped = None
    try:
        try:
            raise ModuleNotFoundError("No module named 'detectron2'")
        except Exception as error:
            raise NotImplementedError(f"UnImplemented dimension! {error}")  # noqa: B904
    except NotImplementedError as error:
        wrapped = error
    assert worker.is_missing(wrapped)
    assert worker.say(wrapped) == "ModuleNotFoundError: No module named 'detectron2'"
    assert worker.is_missing(FileNotFoundError(2, "No such file"))
    assert not worker.is_missing(OSError(28, "No space left on device"))
    assert not worker.is_missing(ValueError("x"))


# Scoring


FAKE = """\
#!{python}
import json, os, sys, time
from pathlib import Path
asked = json.loads(Path(sys.argv[-2]).read_text())
names = sorted(path.name for path in Path(asked["folder"]).iterdir())
assert names == sorted(asked["prompts"])
contents = {{name: Path(asked["folder"], name).read_text() for name in names}}
with open({calls!r}, "a") as file:
    seen = {{"options": sys.argv[1:-3], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}}
    file.write(json.dumps(asked | {{"contents": contents, **seen}}) + "\\n")
print("stray words and", {{"score": 7}})
answer = json.loads(Path({answer!r}).read_text())
if isinstance(answer, dict) and "shows" in answer:
    print(answer["shows"], end="", file=sys.stderr, flush=True)
    for _ in range(6000):
        if Path(answer["until"]).exists(): break
        time.sleep(0.02)
if answer is not None:
    Path(sys.argv[-1]).write_text(json.dumps(answer))
"""


class Fake:
    """An interpreter that gives `answer`, if any, and remembers what it was asked."""

    def __init__(self, folder):
        self.path, self.log, self.reply = (folder / name for name in ("python", "calls", "answer"))
        text = FAKE.format(python=sys.executable, calls=str(self.log), answer=str(self.reply))
        self.path.write_text(text)
        self.path.chmod(0o755)
        self.answer({"score": 0.75})

    def answer(self, response):
        self.reply.write_text(json.dumps(response))

    @property
    def calls(self):
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.split("\n") if line]

    @property
    def asked(self):
        return [call["dimension"] for call in self.calls]


@pytest.fixture
def fake(tmp_path_factory, monkeypatch):
    made = Fake(tmp_path_factory.mktemp("fake"))
    monkeypatch.setenv("SKIPDIT_VBENCH_PYTHON", str(made.path))
    return made


@pytest.fixture
def make(tmp_path):
    """Samples whose files hold their index; sample i has prompt i mod n."""

    def make(prompts, times=5):
        folder = tmp_path / "samples"
        folder.mkdir(exist_ok=True)
        samples = []
        for index in range(len(prompts) * times):
            path = folder / f"{index:06d}.mkv"
            path.write_text(str(index))
            samples.append((prompts[index % len(prompts)], path))
        return samples

    return make


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "kept"


def prompts_of(*dimensions):
    return list(dict.fromkeys(p for name in dimensions for p in table.prompts()[name]))


def test_the_folder_of_a_dimension(make, fake, kept):
    samples = make(prompts_of("color", FLICKER), times=6)
    assert vbench.score_prompts(samples, part=FLICKER, folder=kept, device="cpu") == 75
    (call,) = fake.calls
    wanted = prompts_of(FLICKER)
    assert len(call["prompts"]) == 75 * 5  # the sixth clips are not VBench's
    assert call["prompts"] == {f"{prompt}-{k}.mp4": prompt for prompt in wanted for k in range(5)}
    n = len(prompts_of("color", FLICKER))
    for name, content in call["contents"].items():
        prompt, k = name.removesuffix(".mp4").rsplit("-", 1)
        assert samples[int(content)][0] == prompt
        assert int(content) // n == int(k)
    assert (call["mode"], call["device"], call["version"]) == ("vbench_standard", "cpu", "0.1.5")
    assert call["options"][0] == "-I"  # or `import vbench` would find our own file
    assert not list(kept.glob(".*"))


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("4,6", "6")])
def test_one_gpu_of_several_is_the_only_one_that_vbench_sees(
    make, fake, kept, monkeypatch, given, seen
):
    """Parts of it take the first GPU that they see."""
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    samples = make(prompts_of(FLICKER))
    vbench.score_prompts(samples, part=FLICKER, folder=kept, device="cuda:1")
    assert [(call["device"], call["gpus"]) for call in fake.calls] == [("cuda", seen)]


@pytest.mark.parametrize("absent", ["one clip", "a prompt"])
def test_an_incomplete_set_stops_before_anything_starts(make, fake, kept, absent):
    samples = make(prompts_of(FLICKER))
    gone = samples[7][0]
    samples = [each for i, each in enumerate(samples) if i != 7 and absent != "a prompt"] or [
        each for each in samples if each[0] != gone
    ]
    lacking, has = (1, 4) if absent == "one clip" else (5, 0)
    with pytest.raises(IncompleteError) as caught:
        vbench.score_prompts(samples, part=FLICKER, folder=kept)
    assert str(caught.value) == (
        f"vbench: temporal_flickering lacks {lacking} of 375 clips ({gone!r} has {has}); "
        "generate 5 clips of each of its 75 prompts (--prompts vbench)"
    )
    assert not fake.calls
    assert not kept.exists()


def test_the_total_needs_every_dimension_before_the_first_starts(make, fake, kept):
    samples = make(prompts_of(*(name for name in DIMENSIONS if name != "human_action")))
    with pytest.raises(IncompleteError, match=r"human_action lacks 500 of 500 clips .* has 0, .*"):
        vbench.score_prompts(samples, folder=kept)
    with pytest.raises(IncompleteError, match=r"lacks .*; so do 14 more dimensions; generate"):
        vbench.score_prompts(make(prompts_of(FLICKER)), folder=kept)
    assert not fake.calls


@pytest.mark.slow
def test_all_parts_of_a_whole_run(make, fake, kept):
    """Every raw score is 0.75, each dimension is scored once, and the sum is by the formula."""
    samples, seen = make(prompts_of(*DIMENSIONS)), []
    expected = vbench.total(dict.fromkeys(DIMENSIONS, 0.75))
    ours = vbench.score_prompts(
        samples, folder=kept, progress=lambda done, of: seen.append((done, of))
    )
    assert ours == pytest.approx(100 * expected["total"], rel=1e-12)
    assert fake.asked == DETECTOR + [name for name in DIMENSIONS if name not in DETECTOR]
    assert len(seen) == 17
    assert (seen[0], seen[1], seen[-1]) == ((0, 6810), (79 * 5, 6810), (6810, 6810))
    for part in vbench.GROUPS:
        ours = vbench.score_prompts(samples, part=part, folder=kept)
        assert ours == pytest.approx(100 * expected[part], rel=1e-12)
    assert vbench.score_prompts(samples, part="scene", folder=kept) == 75
    assert len(fake.calls) == 16


@pytest.mark.parametrize("bar", ["30/375", "6/75"], ids=["over clips", "over prompts"])
def test_how_far_a_dimension_is(make, fake, kept, tmp_path, monkeypatch, bar):
    """From the bar in its log, among those of downloads and of other loops; vbench waits for it."""
    monkeypatch.setattr(run, "POLL", 0.02)
    told, gate = [], tmp_path / "told"

    def progress(done, total):
        told.append((done, total))
        if 0 < done < total:
            gate.touch()

    shown = f"\r 10%|#    | 33M/338M [00:01<00:09]\n\r  8%|8    | {bar} [00:02<00:23, 1.0it/s]"
    shown += "\nshards: 50%|##   | 1/2 [00:01<00:01]"
    fake.answer({"score": 0.75, "shows": shown, "until": str(gate)})
    samples = make(prompts_of(FLICKER))
    assert vbench.score_prompts(samples, part=FLICKER, folder=kept, progress=progress) == 75
    assert told == [(0, 375), (30, 375), (375, 375)]


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_next_dimension(make, fake, kept):
    samples = make(prompts_of(*table.members("quality")))
    vbench.score_prompts(samples, part="dynamic_degree", folder=kept)
    left = vbench.lacking(samples, part="quality", folder=kept)
    fake.answer({"error": "RuntimeError: no memory", "missing": False})
    with pytest.raises(SkipditError, match="no memory"):
        vbench.score_prompts(samples, part="quality", folder=kept)
    fake.answer({"score": 0.75})
    vbench.score_prompts(samples, part="quality", folder=kept)
    names = list(table.members("quality"))
    assert left == [name for name in names if name != "dynamic_degree"]
    assert vbench.lacking(samples, part="quality", folder=kept) == []
    assert fake.asked == ["dynamic_degree", names[0], *(n for n in names if n != "dynamic_degree")]


@pytest.mark.slow
def test_a_result_counts_as_long_as_its_clips_are_the_same(make, fake, kept, monkeypatch):
    samples = make(prompts_of(FLICKER))
    score = lambda **more: vbench.score_prompts(samples, part=FLICKER, folder=kept, **more)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for _, path in samples]
    assert score() == score(hashes=hashes) == 75
    assert len(fake.calls) == 1

    samples[3], samples[78] = samples[78], samples[3]  # clips 0 and 1 of a prompt
    score()
    assert len(fake.calls) == 2
    samples[4][1].write_text("another")
    score()
    assert len(fake.calls) == 3
    (kept / f"{FLICKER}.json").write_text('{"score": 1')
    with pytest.warns(SkipditWarning, match="is not a readable score of vbench"):
        score()
    assert len(fake.calls) == 4
    monkeypatch.setattr(run, "VBENCH", "0.1.6")
    score()
    assert len(fake.calls) == 5


def test_a_damaged_clip_is_not_scored(make, fake, kept):
    samples = make(prompts_of(FLICKER))
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for _, path in samples]
    samples[11][1].write_text("damaged")
    with pytest.raises(StoreError, match=r"000011\.mkv: the file is damaged"):
        vbench.score_prompts(samples, part=FLICKER, folder=kept, hashes=hashes)
    samples[11][1].unlink()
    with pytest.raises(StoreError, match=r"000011\.mkv: no such file"):
        vbench.score_prompts(samples, part=FLICKER, folder=kept, hashes=hashes)
    assert not fake.calls


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            {"error": "RuntimeError: out of memory", "missing": False},
            SkipditError,
            "vbench.temporal_flickering: vbench failed: RuntimeError: out of memory; ",
        ),
        (
            {"error": "FileNotFoundError: raft-things.pth", "missing": True},
            MissingAssetError,
            "vbench.temporal_flickering: vbench cannot run: FileNotFoundError: raft-things.pth; "
            "vbench fetches its weights itself, which needs the network",
        ),
        (
            {"error": "ModuleNotFoundError: detectron2 is not installed", "missing": True},
            MissingAssetError,
            "install detectron2 from its source",
        ),
        ({"score": None}, SkipditError, "vbench failed: stray words and {'score': 7}"),
        ({"score": "0.5"}, SkipditError, "vbench failed: stray words"),
        ([0.5], SkipditError, "vbench failed: stray words"),
        (None, SkipditError, "vbench failed: stray words"),  # killed, or gone by os._exit
    ],
)
def test_a_failure_is_a_message_and_never_a_number(make, fake, kept, answer, kind, said):
    fake.answer(answer)
    with pytest.raises(kind) as caught:
        vbench.score_prompts(make(prompts_of(FLICKER)), part=FLICKER, folder=kept)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert not (kept / f"{FLICKER}.json").exists()
    assert "stray words" in (kept / f"{FLICKER}.log").read_text()


def test_no_environment(make, kept, monkeypatch):
    samples = make(prompts_of(FLICKER))
    monkeypatch.setenv("SKIPDIT_VBENCH_PYTHON", "/nowhere/python")
    with pytest.raises(MissingAssetError) as caught:
        vbench.score_prompts(samples, part=FLICKER, folder=kept)
    assert str(caught.value) == (
        "vbench: SKIPDIT_VBENCH_PYTHON=/nowhere/python is not an interpreter; "
        "run `skipdit vbench-env`, or name its Python in SKIPDIT_VBENCH_PYTHON"
    )


# Prompts that are not VBench's


def test_protocols_do_not_mix():
    ours, theirs = ["a seven moves right"], prompts_of(FLICKER)
    assert vbench.protocol(theirs) == "VBench 0.1.5"
    assert vbench.protocol(ours) == vbench.protocol(theirs + ours) == "VBench 0.1.5, custom input"


def test_custom_input(make, fake, kept):
    prompts = ["a seven / moves - right", "0" * 300, "é" * 100, "", "a seven / moves - right"]
    samples = make(prompts, times=2)
    assert vbench.score_prompts(samples, part=FLICKER, folder=kept) == 75
    (call,) = fake.calls
    assert call["mode"] == "custom_input"
    assert len(call["prompts"]) == 10
    for index, (prompt, _) in enumerate(samples):
        (name,) = [n for n, content in call["contents"].items() if content == str(index)]
        assert call["prompts"][name] == prompt
        assert name.endswith(f"-{index}.mp4")
        assert len(name.encode()) < 200
    assert "a seven   moves - right-0.mp4" in call["prompts"]


@pytest.mark.parametrize("part", ["", "quality", "semantic", "color", "scene"])
def test_custom_input_has_no_total(make, fake, kept, part):
    samples = make(["a seven moves right", *prompts_of(FLICKER)])
    with pytest.raises(UsageError) as caught:
        vbench.score_prompts(samples, part=part, folder=kept)
    name = f"vbench.{part}" if part else "vbench"
    assert str(caught.value) == (
        f"{name} needs VBench's own prompts, and 'a seven moves right' is none of them; "
        "take --prompts vbench, or score one of subject_consistency, background_consistency, "
        "temporal_flickering, motion_smoothness, dynamic_degree, aesthetic_quality, "
        "imaging_quality, human_action, temporal_style, overall_consistency singly"
    )
    assert not fake.calls


def test_bad_questions(kept):
    with pytest.raises(UsageError, match="unknown part of vbench 'colour'; did you mean 'color'"):
        vbench.score_prompts([("x", Path("x"))], part="colour", folder=kept)
    with pytest.raises(UsageError, match="no samples"):
        vbench.score_prompts([], folder=kept)
