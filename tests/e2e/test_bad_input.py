"""Bad input: one line that names value, place and fix, the right exit code, and nothing touched."""

import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.train import data

RECIPE = """
title: "Mine"
scales:
  tiny: &scale
    groups: {digits: digits}
    settings: {num_samples: 1, steps: 2}
    columns: [{label: PSNR, metric: psnr, group: digits}]
  paper: *scale
rows:
  - {id: a, label: A, model: "{model}-skip"}
"""


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "sample --model digit-skip",
            ["--model: unknown model 'digit-skip'", "did you mean 'digits-skip'?"],
        ),
        (
            "sample --model digits-skip --cache skip-cach(n=2)",
            ["--cache: unknown cache 'skip-cach'", "did you mean 'skip-cache'?"],
        ),
        (
            "sample --model digits-skip --cache skip-cache(windo=700-50)",
            ["--cache: unknown setting of skip-cache 'windo'", "did you mean 'window'?"],
        ),
        (
            "sample --model digits-skip --cache skip-cache(n=two)",
            ["--cache n: 'two' is not an integer"],
        ),
        ("sample --model digits-skip --cache skip-cache(n=0)", ["--cache: n=0", "n is 1 or more"]),
        (
            "sample --model digits-skip --cache skip-cache(branch=99)",
            ["skip-cache(branch=99) on digits-skip: branch=99 leaves", "branch is at most "],
        ),
        (
            "sample --model digits --cache skip-cache(n=2)",
            ["skip-cache(n=2) on digits: skip-cache needs skip branches", "skipdit ls models"],
        ),
        ("sample --model digits --classes 10", ["--classes: class 10", "classes are 0 to 9"]),
        ("sample --model digits --classes 7..12", ["--classes: class 10", "classes are 0 to 9"]),
        ("sample --model digits --classes five", ["--classes: cannot read range 'five'", "2..6"]),
        (
            "sample --model taichi --classes 1",
            ["--classes: ", "taichi is unconditional", "leave classes out"],
        ),
        (
            "sample --model taichi --guidance 7",
            ["--guidance: ", "taichi is unconditional", "leave guidance out"],
        ),
        (
            "sample --model digits --guidance 0.5",
            [
                "--guidance: guidance '0.5' is not a scale of 1 or more",
                "write none for no guidance",
            ],
        ),
        (
            "sample --model captioned-digits --classes 1",
            ["--classes: ", "captioned-digits takes text", "leave classes out"],
        ),
        (
            "sample --model digits --prompt seven",
            ["--prompt", "seven", "digits takes no text", "leave prompts out"],
        ),
        (
            "sample --model taichi --prompts vbench",
            ["--prompts: ", "taichi takes no text", "leave prompts out"],
        ),
        (
            "sample --model painted-digits --prompt seven --prompts vbench",
            ["--prompt and --prompts say the same", "give one of them"],
        ),
        (
            "sample --model painted-digits --prompts vbnch",
            ["--prompts: unknown prompt list 'vbnch'", "did you mean 'vbench'?"],
        ),
        (
            "sample --model painted-digits --prompts gone.txt",
            ["--prompts: prompt file gone.txt: no such file", "digits-image", "vbench"],
        ),
        (
            "sample --model hunyuan-dit --precision bfloat16",
            ["--precision: hunyuan-dit gives black images in bfloat16", "float16 or float32"],
        ),
        (
            "sample --model painted-digits --steps ddim50+20",
            ["--steps: cannot take steps 'ddim50+20'"],
        ),
        (
            "sample --model digits --num-samples 0",
            ["--num-samples: ", " 0 is too small", "1 or more"],
        ),
        (
            "sample --model digits --batch-size -4",
            ["--batch-size: ", " -4 is too small", "1 or more"],
        ),
        ("sample --model digits --seed -1", ["--seed: ", " -1 is too small", "0 or more"]),
        ("sample --model digits --steps 0", ["--steps: ", "'0'"]),
        ("sample --model digits --steps 1001", ["--steps: ", "'1001'"]),
        (
            "sample --model digits --sampler dimm",
            ["--sampler: unknown sampler 'dimm'", "did you mean 'ddim'?"],
        ),
        (
            "sample --model digits --precision float64",
            ["--precision: unknown precision 'float64'", "did you mean 'float"],
        ),
        ("sample --model digits --workers 0", ["--workers", "1"]),
        (
            "sample --model digits --device cida",
            ["--device: unknown device 'cida'", "did you mean 'cuda'?"],
        ),
        (
            "sample --model digits --scale papr",
            ["--scale: unknown scale 'papr'", "did you mean 'paper'?"],
        ),
        (
            "sample --model digits --scale paper",
            ["--scale paper: digits is an embedded model", "leave it out"],
        ),
        ("sample --scale paper", ["--scale paper: no model is named", "give --model"]),
        ("cache-sweep --scale paper", ["--scale paper: no model is named", "give --model"]),
        (
            "sample --model digits --weights gone.pt",
            ["--weights gone.pt: no such file", "give a file"],
        ),
        ("cache-sweep --model digits-skip --n 0", ["--n: n=0 is not an interval", "1 or more"]),
        (
            "cache-sweep --model digits-skip --n 6..2",
            ["--n: range '6..2' runs backwards", "write 2..6"],
        ),
        ("cache-sweep --model digits-skip --n 2-6", ["--n: cannot read range '2-6'", "2..6"]),
        (
            "cache-sweep --model digits-skip --window 50-700",
            ["--window: window '50-700'", "write 700-50"],
        ),
        (
            "cache-sweep --model digits-skip --n 2 --window 700-50,800",
            ["--window: cannot read window '800'", "as in 700-50"],
        ),
        ("cache-sweep --model digits-skip --window 2000-50", ["--window: ", "'2000-50'", "1000"]),
        (
            "cache-sweep --model digits-skip --method skipcache",
            ["--method: unknown cache 'skipcache'", "did you mean 'skip-cache'?"],
        ),
        (
            "cache-sweep --model digits-skip --method none --n 2",
            ["--n: none has no setting n", "its settings are none"],
        ),
        (
            "cache-sweep --model digits --n 2",
            ["skip-cache(n=2) on digits: skip-cache needs skip branches", "skipdit ls models"],
        ),
        (
            "cache-sweep --model digits-skip --metrics psnr,sim",
            ["--metrics: unknown metric 'sim'", "did you mean 'ssim'?"],
        ),
        (
            "cache-sweep --model captioned-digits --n 2",
            ["skip-cache(n=2) on captioned-digits: skip-cache needs skip", "skipdit ls models"],
        ),
        (
            "cache-sweep --model painted-digits --n 2 --metrics psnr,motion@digits",
            ["--metrics: motion@digits cannot score samples of painted-digits", "fid@digits"],
        ),
        (
            "cache-sweep --model latte-skip --n 2 --metrics fvd@digits",
            ["--metrics: fvd@digits cannot score samples of latte-skip", "psnr, ssim"],
        ),
        (
            "cache-sweep --model digits-skip --repeats -1",
            ["--repeats: -1 is too few", "give 0 or more; 0 times nothing"],
        ),
        ("cache-sweep --model digits-skip --set seed=1", ["--set: ", "is for recipes"]),
        (
            "cache-sweep --recipe tabel1",
            ["unknown recipe 'tabel1'", "did you mean 'table1'?"],
        ),
        (
            "cache-sweep --recipe smoke --model digits --n 2",
            ["--recipe: ", "--model, --n", "--set seed=1"],
        ),
        ("cache-sweep --recipe smoke --classes 1", ["--recipe: ", "--classes"]),
        ("cache-sweep --recipe smoke --method fora", ["--recipe: ", "--method"]),
        ("plan smoke --method fora", ["smoke: ", "--method"]),
        ("cache-sweep --recipe table3 --prompt seven", ["--recipe: ", "--prompt"]),
        (
            "cache-sweep --recipe table3 --scale tiny --prompts vbnch",
            ["table3 row latte: unknown prompt list 'vbnch'", "did you mean 'vbench'?"],
        ),
        (
            "cache-sweep --recipe smoke --scale tiny --prompts vbench",
            ["smoke row skip-dit: prompts vbench", "moving-digits-skip takes no text"],
        ),
        (
            "cache-sweep --recipe smoke --set num_sample=3",
            ["unknown setting 'num_sample'", "did you mean 'num_samples'?"],
        ),
        ("cache-sweep --recipe smoke --set seed", ["override 'seed' is not key=value"]),
        ("cache-sweep --recipe smoke --num-samples 0", ["num_samples=0", "1 or more"]),
        ("plan table33", ["unknown recipe 'table33'", "did you mean 'table3'?"]),
        (
            "plan smoke --recipe table1",
            ["--recipe table1: the command names smoke as well", "leave one of the two out"],
        ),
        ("report smoke --recipe table1", ["--recipe table1: the command names smoke as well"]),
        ("evaluate smoke --recipe table1", ["--recipe table1: the command names smoke as well"]),
        ("evaluate 0123 --recipe table1", ["--recipe table1: the command names 0123 as well"]),
        ("evaluate --recipe 0123", ["unknown recipe '0123'"]),
        ("cache-sweep smoke --recipe table1", ["--recipe table1: the command names smoke as well"]),
        ("cache-sweep smoke --model digits", ["--recipe: ", "--model", "--set seed=1"]),
        (
            "download ucf101 table2 --recipe table1",
            ["--recipe table1: the command names table2 as well"],
        ),
        ("plan smoke --model digits", ["--model", "--set seed=1"]),
        ("plan smoke --num-samples 0", ["num_samples=0", "1 or more"]),
        ("plan --model digits-skip --n 6..2", ["--n: range '6..2' runs backwards", "write 2..6"]),
        ("plan --model digit", ["--model: unknown model 'digit'", "did you mean 'digits'?"]),
        ("plan --model digits --batch-size x", ["--batch-size", "valid int"]),
        ("report tabl1", ["unknown recipe or study 'tabl1'", "did you mean 'table1'?"]),
        ("report smoke --format pdf", ["unknown report format 'pdf'", "csv, html, md, tex"]),
        ("report smoke --figure eps", ["--figure: unknown figure format 'eps'", "pdf, png, svg"]),
        ("cache-sweep --figure pdf --width 3in", ["--width: unknown width '3in'", "column, page"]),
        ("cache-sweep smoke --width page", ["--width: ", "give --figure too, as --figure pdf"]),
        ("report --diff results results --figure pdf", ["--diff: ", "leave --check, --figure"]),
        ("evaluate smok", ["unknown recipe or run 'smok'", "did you mean 'smoke'?"]),
        ("evaluate 0123abcd", ["results: unknown run '0123abcd'", "there are no runs here yet"]),
        (
            "evaluate smoke --metrics pnsr",
            ["--metrics: unknown metric 'pnsr'", "did you mean 'psnr'?"],
        ),
        ("profile --model digits --repeats 0", ["--repeats: 0 is too few", "give 1 or more"]),
        ("profile --model digits --weights gone.pt", ["--weights gone.pt: no such file"]),
        ("profile --model digits --weights random --cache foo", ["--cache: unknown cache 'foo'"]),
        ("train --model digit", ["--model: unknown model 'digit'", "did you mean 'digits'?"]),
        ("train --model taichi", ["--data: the data of taichi does not ship", "give a folder"]),
        ("train --model taichi --data gone", ["gone: no such"]),
        ("train --model digits-skip --stage skip", ["--start: skip branches alone are trained"]),
        (
            "train --model painted-digits --start digits --skip-steps 5",
            [
                "--skip-steps: painted-digits has no skip",
                "native skip branches are trained at once",
            ],
        ),
        (
            "train --model captioned-digits-skip --start digits-skip",
            ["--start: digits-skip has another architecture than captioned-digits-skip"],
        ),
        ("train --model digits --config officiel", ["did you mean 'official'?"]),
        ("train --model digits --config official", ["the official code has no training of digits"]),
        ("train --model digits --set dept=3", ["--set: unknown argument 'dept'", "'depth'"]),
        ("train --model digits --set depth=x", ["--set: depth=x is not int"]),
        ("train --model digits --set depth", ["--set: 'depth' is not KEY=VALUE"]),
        ("train --model digits --eval fid@digits", ["--eval-every: is not given"]),
        ("train --model digits --eval fvd --eval-every 5", ["--eval: fvd", "digits"]),
        ("train --model digits --set depth=0", ["--set: depth=0 is not above 0"]),
        *(
            (f"train --model digits-skip --set {given}", ["--set: the arguments do not fit"])
            for given in ("depth=1", "depth=7", "hidden_size=97", "num_heads=5", "patch_size=3")
        ),
        ("train --model digits --set num_classes=3", ["--set: unknown argument 'num_classes'"]),
        (
            "train --model digits --eval psnr --eval-every 2",
            ["--eval: psnr compares with samples without a cache", "leave it out"],
        ),
        (
            "train --model digits --eval fid@digits --eval-every 2 --reference gone",
            ["--reference gone: no such file or folder"],
        ),
        (
            "train --model digits --eval fid@digits --eval-every 2 --eval-steps x",
            ["--eval-steps: ", "'x'"],
        ),
        ("train --model digits --batch-size 6 --accumulate 4", ["--batch-size: 6 samples cannot"]),
        ("train --model txt", ["--model: unknown model 'txt'", "did you mean 'text'?"]),
        ("train --model digits --steps 0", ["--steps", "1"]),
        ("train --model classifier --steps 0", ["--steps", "1"]),
        ("train --model digits --batch-size 0", ["--batch-size", "1"]),
        ("train --model digits --learning-rate -1", ["--learning-rate: -1.0", "above 0"]),
        ("train --model digits --learning-rate nan", ["--learning-rate: nan", "above 0"]),
    ],
)
def test_usage_errors(skipdit, tmp_path, command, parts):
    skipdit(command).failed(2, *parts)
    assert list(tmp_path.iterdir()) == []


def test_cuda_without_a_gpu(skipdit, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("sample --model digits", "cache-sweep", "profile --model digits"):
        skipdit(f"{command} --device cuda").failed(2, "--device: there is no CUDA", "take cpu")


VAE = "(about 2.77 GB, and 335.0 MB of vae), or give a file with --weights"


@pytest.mark.slow
def test_missing_weights(skipdit, tmp_path):
    """A process of its own, as an end user would meet it."""
    done = skipdit.wait(skipdit.start("cache-sweep --model ucf101-skip"))
    done.failed(
        4,
        "skipdit: the weights of ucf101-skip are not here; "
        f"run `skipdit download ucf101-skip --accept-license` {VAE}",
    )
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "sample --model ucf101-skip",
        "profile --model ucf101-skip --n 2",
        "cache-sweep --recipe smoke --scale paper",
    ],
)
def test_missing_weights_elsewhere(skipdit, tmp_path, command):
    name = "taichi-skip" if "smoke" in command else "ucf101-skip"
    skipdit(command).failed(
        4,
        f"skipdit: the weights of {name} are not here; "
        f"run `skipdit download {name} --accept-license` {VAE}",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "name", "options", "size"),
    [
        ("sample --model latte", "latte", "", "4.23 GB"),
        (
            "sample --model hunyuan-dit --prompt horse",
            "hunyuan-dit",
            " --accept-license",
            "6.00 GB",
        ),
        ("profile --model latte-skip --n 2", "latte-skip", " --accept-license", "8.76 GB"),
        (
            "cache-sweep --recipe table4 --scale paper",
            "hunyuan-dit",
            " --accept-license",
            "6.00 GB",
        ),
    ],
)
def test_missing_weights_of_text_models(skipdit, tmp_path, command, name, options, size):
    """The option is named where the licence of the weights asks for it."""
    skipdit(command).failed(
        4,
        f"the weights of {name} are not here; "
        f"run `skipdit download {name}{options}` (about {size}, and ",
        " of vae, tokenizer, text_encoder",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_told_before_a_download_is_asked_for(skipdit):
    skipdit("cache-sweep --model ucf101-skip --n 0").failed(2, "--n: n=0 is not an interval")
    skipdit("profile --model ucf101-skip --cache foo").failed(2, "unknown cache 'foo'")


@pytest.fixture
def checkpoint():
    """Sound weights of digits-skip, as this version reads them."""
    return load_file(local.require(catalog.card("digits-skip")))


def _truncated(path, state):
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:100_000])


def _truncated_zip(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:100_000])


def _other_model(path, state):
    save_file(load_file(local.require(catalog.card("moving-digits"))), path)


def _one_key_less(path, state):
    save_file({key: value for key, value in state.items() if "final" not in key}, path)


def _other_shape(path, state):
    save_file(state | {"pos_embed": torch.zeros(1, 3, 5)}, path)


def _runs_code(path, state):
    torch.save({"model": print}, path)


def _of_people(path, state):
    torch.save({"names": ["a", "b"]}, path)


@pytest.mark.parametrize(
    ("name", "write", "parts"),
    [
        ("cut.safetensors", _truncated, ["is truncated or not a checkpoint", "fetch it again"]),
        ("cut.pt", _truncated_zip, ["is truncated or not a checkpoint", "fetch it again"]),
        ("empty.pt", lambda path, _: path.write_bytes(b""), ["not a checkpoint"]),
        ("empty.safetensors", lambda path, _: path.write_bytes(b""), ["not a checkpoint"]),
        ("pickle.pt", lambda path, _: path.write_bytes(pickle.dumps(print)), ["not a checkpoint"]),
        ("text.pt", lambda path, _: path.write_text("no weights\n" * 50), ["not a checkpoint"]),
        ("page.safetensors", lambda path, _: path.write_text("<html>" * 50), ["not a checkpoint"]),
        ("other.safetensors", _other_model, ["keys missing", "left over", "another model"]),
        ("less.safetensors", _one_key_less, ["keys missing (final_layer", "is incomplete"]),
        ("shape.safetensors", _other_shape, ["pos_embed is (1, 3, 5), not (1, ", "another model"]),
        ("code.pt", _runs_code, ["could run code", "only tensors"]),
        ("people.pt", _of_people, ["holds no state dict", "another model"]),
    ],
)
def test_checkpoints_that_are_none(skipdit, tmp_path, checkpoint, name, write, parts):
    path = tmp_path / name
    write(path, checkpoint)
    for command in ("sample --num-samples 1", "cache-sweep --n 2", "profile --repeats 1"):
        given = f"{command} --model digits-skip --steps 2 --batch-size 1 --weights"
        assert skipdit(given, path).failed(2, path, *parts).out == ""
    assert not [*tmp_path.glob("results/**/*.png"), *tmp_path.glob("results/scores/*")]


def test_a_folder_as_checkpoint(skipdit, tmp_path):
    said = f"--weights {tmp_path}: is a folder, not a file"
    skipdit("sample --model digits --weights", tmp_path).failed(2, said)


@pytest.fixture
def in_time():
    """A test that waits for ever fails."""

    def late(*signal):
        raise TimeoutError("it still waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "command",
    [
        "sample --model digits --weights",
        "profile --model digits --weights",
        "cache-sweep --model digits-skip --n 2 --weights",
        "analyze calibrate --model digits --method teacache --weights",
        "sample --model painted-digits --prompts",
        "plan",
        "report",
        "evaluate --recipe",
        "cache-sweep --recipe",
        "download --recipe",
        "evaluate --npz",
        "evaluate --samples",
        "report --diff a.csv",
        "download taichi --from",
        "download coco --from",
        "download --metrics inception --from",
    ],
)
def test_what_is_no_file_is_refused_wherever_a_file_is_named(skipdit, tmp_path, command, in_time):
    os.mkfifo("pipe.yaml")
    os.symlink("/dev/zero", "zero.csv")
    (tmp_path / "a.csv").touch()
    for name, kind in (("pipe.yaml", "pipe"), ("zero.csv", "device")):
        done = skipdit(f"{command} ./{name}")
        assert (done.code, done.out) == (2, "")
        assert f"{name}: is a {kind}, not a file" in done.remarks[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"pipe.yaml", "zero.csv", "a.csv"}


def test_a_good_checkpoint_by_path(skipdit, tmp_path, checkpoint, samples):
    """The same weights from another place give the same pixels."""
    path = tmp_path / "mine.safetensors"
    save_file(checkpoint, path)
    given = "sample --model digits-skip --num-samples 2 --batch-size 2 --steps 3 --results"
    skipdit(given, tmp_path / "a", "--weights", path).ok()
    skipdit(given, tmp_path / "b").ok()
    assert list(samples(tmp_path / "a").values()) == list(samples(tmp_path / "b").values())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("rows:", "rowz:"), ["unknown key 'rowz'", "did you mean 'rows'?"]),
        (("steps: 2", "step: 2"), ["scales.tiny.settings: unknown key 'step'", "'steps'"]),
        (("steps: 2", "steps: 0"), ["scales.tiny.settings.steps: ", "'0'"]),
        (("label: A,", "label: A, cache: foar,"), ["rows[0].cache: unknown cache 'foar'"]),
        (
            ("label: A,", "label: A, cache: skip-cache(n=0),"),
            ["rows[0].cache: n=0 is not an interval", "n is 1 or more"],
        ),
        (("metric: psnr", "metric: psnrr"), ["unknown metric 'psnrr'", "did you mean 'psnr'?"]),
        (("digits: digits", "digits: digit"), ["scales.tiny.groups.digits: unknown model 'digit'"]),
        (("rows:", "rows: ["), ["line 10: not valid YAML"]),
        (("title:", "titel:"), ["unknown key 'titel'", "did you mean 'title'?"]),
    ],
)
def test_mistakes_in_a_recipe(skipdit, tmp_path, change, parts):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace(*change))
    for command in ("cache-sweep --recipe mine.yaml", "plan mine.yaml", "report mine.yaml"):
        done = skipdit(command)
        assert done.code == 2
        first = done.remarks[0]
        assert first.startswith("skipdit: mine.yaml")
        assert [part for part in parts if not any(part in line for line in done.remarks)] == []
    assert list(tmp_path.iterdir()) == [path]


def test_all_mistakes_of_a_recipe_at_once(skipdit, tmp_path):
    text = RECIPE.replace("steps: 2", "steps: 0").replace("metric: psnr", "metric: psnrr")
    (tmp_path / "mine.yaml").write_text(text.replace("*scale", "{}"))
    told = skipdit("cache-sweep --recipe mine.yaml").remarks
    for part in ("settings.steps", "'psnrr'", "'groups' is missing"):
        assert any(part in line for line in told), part


def test_a_recipe_that_is_not_there(skipdit):
    skipdit("cache-sweep --recipe gone.yaml").failed(2, "gone.yaml: no such file")
    skipdit("evaluate gone.yaml").failed(2, "gone.yaml: no such file")


def test_training_without_its_data_ends_before_it_starts(skipdit, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setattr(data, "_load", data._load.__wrapped__)  # what was loaded is not kept
    for model in ("digits", "classifier"):
        done = skipdit(f"train --model {model} --steps 1 --out trained")
        done.failed(4, "run `pip install scikit-learn`")
        assert "training the" not in done.err
    assert not Path("trained").exists()


@pytest.mark.parametrize("model", ["fashion-skip", "fashion-classifier"])
def test_training_on_clothes_that_are_not_here_ends_before_it_starts(skipdit, clothes, model):
    for path in clothes.iterdir():
        path.unlink()
    done = skipdit(f"train --model {model} --steps 1 --out trained")
    done.failed(4, "run `apt install dataset-fashion-mnist`, or put its files into ", str(clothes))
    assert "training the" not in done.err
    assert not Path("trained").exists()


def test_training_without_its_library_ends_before_it_starts(skipdit, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    done = skipdit("train --model digits --steps 1 --out trained")
    done.failed(4, "training needs accelerate; run `pip install 'skipdit[train]'`")
    assert "training digits" not in done.err
    assert not Path("trained").exists()
