"""The real vbench on a processor, in the environment that `skipdit vbench-env` makes.

temporal_flickering is the one dimension that needs no weights; its formula is simple enough to be
worked out beside it. What the other dimensions read is read here as they read it.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli.errors import IncompleteError, MissingAssetError, SkipditError
from skipdit_cli.metrics import vbench
from skipdit_cli.metrics.vbench import run, table
from skipdit_cli.storage.codec import read_clip, write_clip
from tests.tiny_pipelines import make

pytestmark = pytest.mark.vbench

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "metrics" / "vbench"
FLICKER = "temporal_flickering"


def golden(name):
    return json.loads((GOLDEN / "results" / f"{name}_eval_results.json").read_text())[FLICKER]


def flicker(clips):
    """Mean over frame pairs of (255 - mean |difference|) / 255, then over clips uint8 [T,H,W,3]."""
    means = [np.abs(np.diff(clip.astype(np.int64), axis=0)).mean() for clip in clips]
    return float(np.mean([(255 - mean) / 255 for mean in means]))


def random_clip(seed, shape=(5, 16, 16, 3)):
    """Steps of different sizes, so that a frame or channel that is left out shows."""
    random = np.random.default_rng(seed)
    steps = random.integers(0, 20 + seed % 100, shape).cumsum(axis=0) + 10 * np.arange(3)
    return (steps % 256).astype(np.uint8)


def write(folder, clips):
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:06d}.mkv" for index in range(len(clips))]
    for file, clip in zip(files, clips, strict=True):
        write_clip(file, clip)
    return files


def in_environment(code, *arguments):
    """What code prints, as JSON, when it runs where vbench is."""
    command = [str(vbench.environment()), "-I", "-X", "utf8", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def test_the_prompt_list_is_the_packages():
    code = (
        "import json, importlib.util as u, pathlib as p; "
        "path = p.Path(u.find_spec('vbench').origin).with_name('VBench_full_info.json'); "
        "print(json.dumps(json.loads(path.read_text())))"
    )
    theirs = {name: [] for name in vbench.DIMENSIONS}
    for entry in in_environment(code):
        for name in entry["dimension"]:
            theirs[name].append(entry["prompt_en"])
    assert {name: list(listed) for name, listed in table.prompts().items()} == theirs


def test_golden_clips_in_custom_input(tmp_path):
    """Three mp4 files and the score that vbench gave them, whole and singly."""
    mean, entries = golden("custom_tf")
    expected = {Path(each["video_path"]).name: each["video_results"] for each in entries}
    samples = [(path.stem, path) for path in sorted((GOLDEN / "custom_videos").iterdir())]
    ours = vbench.score_prompts(samples, part=FLICKER, folder=tmp_path)
    assert ours == pytest.approx(100 * mean, abs=1e-6)
    record = json.loads((tmp_path / f"{FLICKER}.json").read_text())
    assert record["versions"]["vbench"] == "0.1.5"
    singly = {f"{name}-{i}.mp4": expected[path.name] for i, (name, path) in enumerate(samples)}
    assert record["videos"] == pytest.approx(singly, abs=1e-9)


def test_golden_clips_under_vbench_names(tmp_path):
    """In standard mode, by the worker alone: `score_prompts` refuses four clips of 375."""
    mean, entries = golden("std_tf")
    clips = [
        run.Clip(path.name, path.stem[:-2], path, run.sha256(path))
        for path in (GOLDEN / "standard_videos").iterdir()
    ]
    python = vbench.environment()
    options = {"mode": run.STANDARD, "folder": tmp_path, "device": "cpu", "python": python}
    assert run.score(FLICKER, clips, **options) == pytest.approx(mean, abs=1e-9)
    record = json.loads((tmp_path / f"{FLICKER}.json").read_text())
    expected = {Path(each["video_path"]).name: each["video_results"] for each in entries}
    assert record["videos"] == pytest.approx(expected, abs=1e-9)


def test_lossless_clips_follow_the_formula(tmp_path):
    clips = [random_clip(seed, (8, 24, 40, 3)) for seed in range(6)]
    files = write(tmp_path / "samples", clips)
    names = ["a seven / moves", "a seven / moves", "é" * 200, "x" * 400, "", "a - hyphen"]
    ours = vbench.score_prompts(
        list(zip(names, files, strict=True)), part=FLICKER, folder=tmp_path / "kept"
    )
    assert ours / 100 == pytest.approx(flicker(clips), abs=1e-6)


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    """Five clips of each of the 75 prompts, in the order of a run: sample i has prompt i mod 75."""
    prompts = table.prompts()[FLICKER]
    clips = [random_clip(seed) for seed in range(5 * len(prompts))]
    files = write(tmp_path_factory.mktemp("samples"), clips)
    return [(prompts[i % len(prompts)], file) for i, file in enumerate(files)], clips


def test_a_whole_dimension(standard, tmp_path, monkeypatch):
    samples, clips = standard
    ours = vbench.score_prompts(samples, part=FLICKER, folder=tmp_path)
    assert ours / 100 == pytest.approx(flicker(clips), abs=1e-6)
    record = json.loads((tmp_path / f"{FLICKER}.json").read_text())
    for index in (0, 74, 75, 374):
        name = f"{samples[index][0]}-{index // 75}.mp4"
        assert record["videos"][name] == pytest.approx(flicker([clips[index]]), abs=1e-6)
    monkeypatch.setenv("SKIPDIT_VBENCH_PYTHON", "/nowhere")
    assert vbench.score_prompts(samples, part=FLICKER, folder=tmp_path) == ours


def test_a_dimension_that_lacks_one_clip(standard, tmp_path):
    samples, _ = standard
    with pytest.raises(IncompleteError, match="lacks 1 of 375 clips"):
        vbench.score_prompts(samples[:-1], part=FLICKER, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_clip_that_nobody_can_read(tmp_path):
    """vbench would leave it out and average the rest."""
    files = write(tmp_path, [random_clip(seed) for seed in range(2)])
    files[1].write_bytes(b"no clip")
    with pytest.raises(SkipditError, match="RuntimeError: 1 clips have no score, the first is b-1"):
        vbench.score_prompts(
            [("a", files[0]), ("b", files[1])], part=FLICKER, folder=tmp_path / "kept"
        )


def test_weights_that_cannot_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    files = write(tmp_path, [random_clip(seed) for seed in range(2)])
    samples = [("a", files[0]), ("b", files[1])]
    with pytest.raises(MissingAssetError, match=r"vbench cannot run: .*amt-s\.pth"):
        vbench.score_prompts(samples, part="motion_smoothness", folder=tmp_path / "kept")


def test_a_total_without_the_detector(tmp_path):
    """pip alone cannot install it; that is said before any other dimension is scored."""
    if in_environment("from importlib import util; print(int(bool(util.find_spec('detectron2'))))"):
        pytest.skip("detectron2 is here")
    (file,) = write(tmp_path, [random_clip(0)])
    samples = [(prompt, file) for prompt in sorted(table.all_prompts()) * 5]
    with pytest.raises(MissingAssetError, match=r"object_class: .*; install detectron2 from its"):
        vbench.score_prompts(samples, folder=tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*.json"))


# decord and OpenCV look at the content, not at the suffix; what they return is what was written.
READ = """
import json, sys
import cv2, decord, numpy as np
file, array = sys.argv[1:]
frames, video = [], cv2.VideoCapture(file)
fps = video.get(cv2.CAP_PROP_FPS)
while True:
    good, frame = video.read()
    if not good: break
    frames.append(frame[..., ::-1])
expected = np.load(array)
from vbench.utils import load_video, read_frames_decord_by_fps
whole = load_video(file, return_tensor=False)
some = load_video(file, num_frames=4, return_tensor=False)
middle = read_frames_decord_by_fps(file, num_frames=4, sample="middle").numpy()
same = lambda a, b: a.shape == b.shape and bool((a == b).all())
print(json.dumps({
    "cv2": same(np.array(frames), expected), "fps": fps, "whole": same(whole, expected),
    "some": same(some, expected[1::4]),
    "middle": same(middle.transpose(0, 2, 3, 1), expected[1::4]),
}))
"""


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (256, 256)])
def test_links_named_mp4_are_read_bit_for_bit(tmp_path, size):
    clip = np.random.default_rng(0).integers(0, 256, (16, *size, 3), dtype=np.uint8)
    (file,) = write(tmp_path, [clip])
    link = tmp_path / "a prompt, façade-0.mp4"
    link.symlink_to(file)
    np.save(tmp_path / "clip.npy", clip)
    assert in_environment(READ, link, tmp_path / "clip.npy") == {
        "cv2": True,
        "fps": 8.0,
        "whole": True,
        "some": True,
        "middle": True,
    }


def test_samples_of_a_pipeline(tmp_path):
    """Clips of prompts of one's own, in a sweep, each in a column of its dimension."""
    pipeline = make("cogvideox", tmp_path / "cogvideox")
    asked = (
        f"cache-sweep --pipeline {pipeline} --method fora --n 2 --steps 4 --guidance 4 "
        "--call height=32 --call width=48 --call num_frames=9 --call max_sequence_length=32 "
        f"--num-samples 2 --no-fewer-steps --repeats 0 --metrics vbench.{FLICKER}"
    )
    own = ["--prompt", "a cat and a red dog"]  # "a cat" alone is one of VBench's
    done = subprocess.run(
        [sys.executable, "-m", "skipdit_cli", *shlex.split(asked), *own],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "VBench temporal flickering (%)" in done.stdout
    assert "VBench 0.1.5, custom input" in done.stdout
    scored = 0
    for folder in (tmp_path / "results" / "samples").iterdir():
        clips = [read_clip(file) for file in sorted(folder.glob("*.mkv"))]
        (kept,) = (tmp_path / "results" / "scores" / folder.name).glob(f"vbench.{FLICKER}.json")
        value = json.loads(kept.read_text())["value"]
        assert value / 100 == pytest.approx(flicker(clips), abs=1e-6)
        scored += len(clips)
    assert scored == 4
