"""skipdit train, as a user runs it."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from skipdit_cli.checkpoints import local
from skipdit_cli.embedded import shipped
from skipdit_cli.storage.codec import write_clip
from skipdit_cli.train import network

STAGED = (
    "train --model digits-skip --start digits --skip-steps 8 --steps 12 --batch-size 8 "
    "--log-every 1 --device cpu"
)
TRAIN = (
    "train --model digits --steps 6 --batch-size 4 --learning-rate 0.001 --log-every 2 "
    "--checkpoint-every 2 --out"
)
LEFT = {
    *("config.json", "card.json", "training.json", "log.jsonl", "run.lock"),
    local.WEIGHTS_FILE,
}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train(skipdit, tmp_path, samples):
    done = skipdit(f"{TRAIN} vanilla").ok()
    assert done.out == "digits in vanilla\n"
    assert re.search(r"step 4 of 6: loss \d\.\d{4}, rate 0\.\d+, \S+ samples/s, \S+ GiB", done.err)
    record = json.loads((tmp_path / "vanilla" / "training.json").read_text())
    assert record["command"] == f"skipdit {TRAIN} vanilla"
    assert [step for step, _ in record["loss_curve"]] == [2, 4, 6]
    assert [each["step"] for each in lines(tmp_path / "vanilla" / "log.jsonl")] == [2, 4, 6]
    assert {path.name for path in (tmp_path / "vanilla").iterdir()} == LEFT
    # what was trained can be sampled from
    skipdit("sample --model vanilla --num-samples 2 --steps 2").ok()
    assert len(samples(tmp_path / "results")) == 2
    skipdit(f"{TRAIN} vanilla").failed(2, "vanilla: holds a model that is trained already")


@pytest.mark.parametrize(
    "start", ["digits", pytest.param("captioned-digits", marks=pytest.mark.slow)]
)
def test_train_a_skip_model_in_two_stages(skipdit, tmp_path, start):
    """In one run, and in one for each."""
    given = f"train --model {start}-skip --batch-size 4 --log-every 2"
    skipdit(f"{given} --start {start} --skip-steps 2 --steps 2 --out out").ok()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["settings"]["start"] == start
    assert [step for step, _ in record["loss_curve"]] == [2, 4]
    skipdit(f"{given} --start {start} --stage skip --steps 2 --out first").ok()
    skipdit(f"{given} --start ./first --steps 2 --half --out second").ok()
    vanilla = load_file(shipped.embedded() / start / local.WEIGHTS_FILE)
    first, second = (load_file(tmp_path / n / local.WEIGHTS_FILE) for n in ("first", "second"))
    assert all(torch.equal(first[key], value.float()) for key, value in vanilla.items())
    assert not any(torch.equal(second[key], first[key].half()) for key in first if "weight" in key)


def test_train_at_another_size(skipdit, tmp_path, samples):
    skipdit(f"{TRAIN} deep --set depth=8 --set hidden_size=48 --checkpointing --accumulate 2").ok()
    config = json.loads((tmp_path / "deep" / "config.json").read_text())
    assert (config["depth"], config["hidden_size"]) == (8, 48)
    skipdit("sample --model deep --num-samples 2 --steps 2").ok()
    assert len(samples(tmp_path / "results")) == 2


def test_train_a_model_with_skip_branches_of_its_own(skipdit, tmp_path):
    skipdit("train --model painted-digits --steps 2 --batch-size 2 --log-every 1 --out out").ok()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["settings"]["start"] is None
    assert [step for step, _ in record["loss_curve"]] == [1, 2]


def test_scores_while_it_trains(skipdit, tmp_path):
    """They are those of the model that comes out, and its samples are shown."""
    looks = "--eval fid@digits,accuracy@digits --eval-every 4 --eval-samples 8 --eval-steps 3"
    skipdit(f"{TRAIN} out {looks}").ok()
    scores = lines(tmp_path / "out" / "scores.jsonl")
    assert [(each["step"], each["metric"]) for each in scores] == [
        (step, metric) for step in (4, 6) for metric in ("fid@digits", "accuracy@digits")
    ]
    assert scores[0]["value"] != scores[2]["value"]
    pictures = {"samples-0000004.png", "samples-0000006.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == LEFT | pictures | {
        "scores.jsonl"
    }
    skipdit("sample --model out --num-samples 8 --batch-size 4 --steps 3 --seed 0").ok()
    (key,) = (path.name for path in (tmp_path / "results" / "samples").iterdir())
    done = skipdit(f"evaluate {key} --metrics fid@digits --json").ok()
    assert json.loads(done.out)[0]["value"] == scores[2]["value"]


@pytest.mark.slow
def test_train_on_clothes(skipdit, clothes, tmp_path):
    """Scores, as those of digits, are by a classifier that knows them; folders keep their data."""
    looks = "--eval fid@fashion,accuracy@fashion --eval-every 1 --eval-samples 4 --eval-steps 2"
    skipdit(f"train --model fashion-skip --steps 1 --batch-size 2 --out out {looks}").ok()
    scores = lines(tmp_path / "out" / "scores.jsonl")
    assert [each["metric"] for each in scores] == ["fid@fashion", "accuracy@fashion"]
    assert json.loads((tmp_path / "out" / "card.json").read_text())["data"] == "fashion"
    skipdit("cache-sweep --model out --n 2 --steps 2 --metrics fid@digits").failed(
        2, "--metrics: fid@digits cannot score samples of ", "accuracy@fashion"
    )


def test_train_the_text_encoders(skipdit, tmp_path):
    done = skipdit("train --model text --steps 1 --out out").ok()
    assert re.fullmatch(r"the text encoders: accuracy 0\.\d{4}, in out\n", done.out)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in (shipped.embedded() / "text").iterdir()}


@pytest.mark.slow  # the same in one process: tests/unit/train/test_loop.py
def test_a_killed_training_continues(skipdit, tmp_path, wait_for):
    """Killed for real after its first checkpoint, it ends with the weights of one undisturbed."""
    skipdit(f"{TRAIN} whole").ok()
    waiting = (  # with the step after its second checkpoint
        "import time\n"
        "from skipdit_cli import cli\n"
        "from skipdit_cli.train import network\n"
        "update, steps = network.Trained.update, iter(range(1, 7))\n"
        "network.Trained.update = lambda *a: time.sleep(600 * (next(steps) > 4)) or update(*a)\n"
        "cli.main()"
    )
    process = skipdit.start(TRAIN, "killed", program=("-c", waiting))
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    wait_for(checkpoint.exists)
    process.kill()
    assert skipdit.wait(process).code == -9
    assert not (tmp_path / "killed" / "training.json").exists()
    done = torch.load(checkpoint, weights_only=True)["state"]["step"]
    assert done in (2, 4)
    skipdit(f"{TRAIN} killed").ok()
    assert not checkpoint.exists()
    one, other = (load_file(tmp_path / name / local.WEIGHTS_FILE) for name in ("whole", "killed"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("started", ["--processes", "--shard", "torchrun"])
def test_two_processes_are_one(skipdit, tmp_path, started):
    """Losses of 20 steps, to float tolerance, at the same batch of all processes together."""
    given = f"{STAGED} --out"
    if started != "torchrun":
        more = "--shard --accumulate 2" if started == "--shard" else ""
        skipdit.wait(skipdit.start(f"{given} two --processes 2 {more}")).ok()
    else:  # and one process encodes the data, which the other waits for, if it is there before
        pictures(tmp_path / "photos", classes=(*"0123456789",), count=4)
        given = given.replace("--out", "--data photos --out")
        launch = "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
        program = "-m", *launch, "-m", "--", "skipdit_cli"
        done = skipdit.wait(skipdit.start(f"{given} two", program=program))
        assert (done.code, "".join(done.remarks)) == (0, "")  # lines of two processes, in one file
        assert done.err.count("encoding photos\n") == 1
    skipdit(f"{given} one").ok()
    same_training(tmp_path / "one", tmp_path / "two")
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2


def same_training(folder, other):
    """Losses, norms and weights of 20 steps, to float tolerance."""
    logged = [{each["step"]: each for each in lines(of / "log.jsonl")} for of in (folder, other)]
    assert [[*each] for each in logged] == [list(range(1, 21))] * 2
    for key in ("loss", "gradient_norm"):
        one, two = ([line[key] for line in each.values()] for each in logged)
        assert two == pytest.approx(one, rel=1e-4)
    one, two = (load_file(each / local.WEIGHTS_FILE) for each in (folder, other))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", ["sharded", "whole"])
def test_a_checkpoint_fits_any_number_of_processes(skipdit, tmp_path, first):
    """Stopped in the second stage in parts and continued in one piece, and the other way round."""
    stopping = tmp_path / "stopping.py"
    stopping.write_text(
        "import os\n"
        "from skipdit_cli import cli\n"
        "from skipdit_cli.train import network\n"
        "rate = network.rate\n"
        "network.rate = lambda asked, step: os._exit(3) if step == 13 else rate(asked, step)\n"
        "cli.main()\n"
    )
    launch = "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    given, shard = f"{STAGED} --checkpoint-every 5 --out two", "--shard --processes 2"
    if first == "sharded":
        stopped = skipdit.start(f"{given} --shard", program=("-m", *launch, "--", stopping))
        assert skipdit.wait(stopped).code == 1
        rest = given
    else:
        assert skipdit.wait(skipdit.start(given, program=(stopping,))).code == 3
        rest = f"{given} {shard}"
    kept = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)
    assert kept["state"]["step"] == 10
    skipdit.wait(skipdit.start(rest)).ok()
    skipdit(f"{STAGED} --out one").ok()
    same_training(tmp_path / "one", tmp_path / "two")


def test_a_training_with_other_settings_is_not_continued(skipdit, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    rate = network.rate
    with monkeypatch.context() as patch:
        patch.setattr(network, "rate", lambda s, step: stop() if step == 3 else rate(s, step))
        assert skipdit(f"{TRAIN} out").code == 130
    skipdit(f"{TRAIN} out --seed 1").failed(
        2, "out/checkpoint.pt: holds a run with other settings (seed=0)", "--out"
    )
    assert (tmp_path / "out" / "checkpoint.pt").is_file()


def test_one_process_has_nobody_to_share_weights_with(skipdit):
    skipdit(f"{TRAIN} out --shard").failed(2, "--shard: one process has nobody", "--processes")


def test_train_into_a_file(skipdit, tmp_path):
    (tmp_path / "out").write_text("")
    skipdit(f"{TRAIN} out").failed(1, "out: a file is where a folder should be")


def pictures(folder, *, classes=("circle", "cross"), count=6):
    """PNG files of classes, which differ in brightness."""
    random = np.random.default_rng(0)
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        dark = 140 * place // len(classes)
        for i in range(count):
            pixels = random.integers(dark, dark + 99, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_train_on_images_of_ones_own(skipdit, tmp_path, samples):
    """With the classes that are there; the second training finds them encoded."""
    pictures(tmp_path / "photos", classes=("a", "b", "c"))
    given = "train --model digits-skip --data photos --steps 3 --batch-size 4 --log-every 1"
    done = skipdit(f"{given} --out first").ok()
    assert "encoding photos" in done.err
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert (config["num_classes"], config["skip"]) == (3, True)
    skipdit("sample --model first --num-samples 3 --steps 2 --classes 2").ok()
    assert len(samples(tmp_path / "results")) == 3
    (folder,) = (tmp_path / "results" / "latents").iterdir()
    skipdit(f"{given} --data {folder} --out second").ok()
    first, second = (load_file(tmp_path / n / local.WEIGHTS_FILE) for n in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    skipdit(f"{given} --data {folder} --interval 2 --out third").failed(
        2, "--interval: the data is"
    )
    looks = "--eval-every 2 --out fourth --eval"
    skipdit(f"{given} {looks} fid@digits").failed(2, "--eval: fid@digits cannot score samples of")
    skipdit(f"{given} {looks} fid").failed(2, "--eval: fid compares with real", "--reference")
    assert not (tmp_path / "fourth").exists()


def test_a_warm_up_that_training_does_not_see_the_end_of(skipdit):
    skipdit(f"{TRAIN} out --warm-up 7").failed(
        2, "--warm-up: 7 steps up to the peak are more than the 6 of training", "--steps"
    )


def test_what_is_trained_is_not_overwritten(skipdit, tmp_path):
    """Not by a training that starts from it, either."""
    skipdit(f"{TRAIN} one").ok()
    before = (tmp_path / "one" / local.WEIGHTS_FILE).read_bytes()
    again = TRAIN.replace("--model digits", "--model ./one --start ./one")
    skipdit(f"{again} one").failed(2, "one: holds a model that is trained already")
    skipdit(f"{again} other").ok()
    assert (tmp_path / "one" / local.WEIGHTS_FILE).read_bytes() == before


def test_a_loss_that_is_no_number_ends_training(skipdit, tmp_path):
    wild = "train --model digits --steps 8 --batch-size 4 --learning-rate 1e30 --clip 0"
    done = skipdit(f"{wild} --log-every 1 --out wild")
    done.failed(1, "wild: the loss is ", "at step", "take a lower --learning-rate")
    assert not (tmp_path / "wild" / "training.json").exists()


def test_train_on_clips_with_captions(skipdit, tmp_path, samples):
    """From a table of paths and captions, with images beside the clips."""
    random = np.random.default_rng(0)
    for i in range(3):
        clip = random.integers(0, 255, (40, 18, 20, 3), dtype=np.uint8)
        write_clip(tmp_path / f"{i}.mkv", clip)
    (tmp_path / "clips.csv").write_text(
        "path,caption\n0.mkv,a three moves left\n1.mkv,a four moves up\n2.mkv,a six moves down\n"
    )
    skipdit("latents --model captioned-digits --data clips.csv --crops 2 --out kept").ok()
    skipdit(
        "train --model captioned-digits-skip --data kept --steps 2 --batch-size 2 --log-every 1 "
        "--images-per-clip 2 --out out"
    ).ok()
    assert [each["step"] for each in lines(tmp_path / "out" / "log.jsonl")] == [1, 2]
    skipdit("sample --model out --num-samples 1 --steps 2 --prompt", "a three moves left").ok()
    assert len(samples(tmp_path / "results")) == 1


def test_a_run_that_is_compared(skipdit, tmp_path):
    looks = "--eval fid@digits --eval-every 3 --eval-samples 8 --eval-steps 2"
    for model in ("digits", "digits-skip"):
        skipdit(f"{TRAIN.replace('--model digits', f'--model {model}')} {model} {looks}").ok()
    done = skipdit("report training digits digits-skip").ok()
    assert "FID@digits against training steps" in done.out
    assert (tmp_path / "results" / "training" / "training.png").is_file()
