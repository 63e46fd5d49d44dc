"""`skipdit download --metrics` against the server of conftest.py, with small files."""

import hashlib
import json

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.errors import MissingAssetError

FILES = {"alexnet": bytes(range(250)) * 200, "i3d": b"script" * 99, "imagenet256": b"batch" * 9}

AGENTS = "/api/agent-harnesses"  # which huggingface_hub asks for of itself, once in a process


def of(name):
    return assets.declared()[name]


@pytest.fixture
def sources(hub, put_asset):
    """The assets, at addresses of the server."""
    hub.addresses |= {f"/{name}.bin": content for name, content in FILES.items()}
    for name, content in {**FILES, "inception": FILES["alexnet"]}.items():
        digest = hashlib.sha256(content).hexdigest()
        at = "alexnet" if name == "inception" else name
        source = f"{hub.url}/{at}.bin?dl=1"
        put_asset(name, source=source, size=len(content), digest=digest)
    put_asset("clip", source="someone/clip")
    hub.repositories["someone/clip"] = {
        "README.md": b"x",
        **dict.fromkeys(("config.json", "preprocessor_config.json", "vocab.json"), b"{}"),
        "tokenizer_config.json": b"{}",
        "merges.txt": b"a b\n",
        "model.safetensors": save({"a": np.ones(9)}),
        "pytorch_model.bin": b"z" * 50,
        "tf_model.h5": b"z" * 50,
    }


@pytest.fixture
def fetch(sources, skipdit):
    """fetch(names, more arguments) runs the download of what metrics need."""
    return lambda names, *more: skipdit("download", "--metrics", names, *more)


def test_a_metric_brings_its_assets_and_a_second_time_nothing_is_asked(hub, fetch, home):
    done = fetch("lpips,fvd")
    paths = {name: assets.target(of(name)) for name in ("alexnet", "i3d")}
    assert (done.code, done.out) == (0, "".join(f"{n} {p}\n" for n, p in paths.items())), done
    assert "licence BSD-3-Clause" in done.err
    for name, path in paths.items():
        assert path == home / "metrics" / name / of(name).file
        assert path.read_bytes() == FILES[name]
        assert assets.require(of(name)) == path
        assert assets.verified(of(name))
    told = json.loads((home / "metrics" / "i3d.json").read_text())
    assert told["sha256"] == hashlib.sha256(FILES["i3d"]).hexdigest()
    assert told["source"] == f"{hub.url}/i3d.bin?dl=1"
    hub.forget()
    again = fetch("alexnet,i3d")
    assert (again.code, again.out, hub.requests) == (0, done.out, [])


def test_of_a_repository_only_what_is_needed_is_fetched(hub, fetch, home):
    assert fetch("clip-score").code == 0
    folder = assets.require(of("clip"))
    assert folder == home / "metrics" / "clip"
    taken = sorted(path.name for path in folder.iterdir())
    left = {"README.md", "pytorch_model.bin", "tf_model.h5"}
    assert taken == sorted(hub.repositories["someone/clip"].keys() - left)
    assert assets.verified(of("clip"))
    before = assets.fingerprint(of("clip"))
    (folder / "model.safetensors").write_bytes(b"?")
    with pytest.raises(MissingAssetError, match=r"damaged \(model.safetensors is cut off"):
        assets.require(of("clip"))
    hub.forget()
    assert fetch("clip").code == 0
    assert [path.split("/")[-1] for path in hub.sent] == ["model.safetensors"]
    assert assets.fingerprint(of("clip")) == before


def test_of_a_repository_without_safetensors_the_other_weights_are_fetched(
    hub, fetch, put_asset, home, tmp_path
):
    """DINO's has these alone. A network needs no more than its configuration beside them."""
    import torch

    torch.save({"a": torch.ones(9)}, tmp_path / "weights")
    weights = (tmp_path / "weights").read_bytes()
    put_asset("dino", source="someone/dino")
    hub.repositories["someone/dino"] = {
        "README.md": b"x",
        "config.json": b"{}",
        "preprocessor_config.json": b"{}",
        "pytorch_model.bin": weights,
        "tf_model.h5": b"z" * 50,
    }
    done = fetch("dino-similarity")
    assert done.code == 0
    assert "licence Apache-2.0" in done.err
    folder = assets.require(of("dino"))
    assert (folder / "pytorch_model.bin").read_bytes() == weights
    assert {path.name for path in folder.iterdir()} >= {"config.json", "pytorch_model.bin"}
    assert not (folder / "tf_model.h5").exists()


def test_images_of_imagenet_need_their_terms_accepted(hub, fetch, failed):
    """As the checkpoints' licences do; what is free is fetched without."""
    for names in ("imagenet256", "fid", "all"):
        failed(
            fetch(names),
            2,
            "the licence of imagenet256 is ImageNet terms of access, for non-commercial research",
            "--accept-license",
        )
    assert hub.requests == []
    assert fetch("imagenet256", "--dry-run").code == 0
    assert fetch("i3d").code == 0
    assert fetch("imagenet256", "--accept-license").code == 0
    assert fetch("imagenet256").code == 0  # it is here


def test_an_interrupted_transfer_goes_on_where_it_stopped(hub, fetch, failed, table):
    hub.cut = 20_500
    size = len(FILES["alexnet"])
    failed(fetch("alexnet"), 4, f"broke off after 20000 of {size} bytes", "goes on from there")
    assert assets.state(of("alexnet")) == ("absent", "")
    hub.cut = None
    hub.forget()
    assert [row["state"] for row in table(fetch("alexnet", "--dry-run").out)] == ["resume"]
    assert hub.requests == []
    assert fetch("alexnet").code == 0
    assert [wanted for _, _, wanted, _ in hub.requests] == ["bytes=20000-"]
    assert assets.target(of("alexnet")).read_bytes() == FILES["alexnet"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: b"?" + content[1:], "its sha256 is "),
        (lambda content: content + b"more", "bytes, not "),
        (lambda content: b"<html>", "bytes, not "),
    ],
    ids=["hash", "too long", "another file"],
)
def test_what_is_not_as_it_should_be_is_deleted(hub, fetch, failed, home, damage, told):
    sound = hub.addresses["/i3d.bin"]
    hub.addresses["/i3d.bin"] = damage(sound)
    failed(fetch("i3d"), 4, "i3d.bin?dl=1 is damaged", told, "it was deleted")
    assert [path for path in home.rglob("*") if path.is_file() and "lock" not in path.name] == []
    hub.addresses["/i3d.bin"] = sound
    assert fetch("i3d").code == 0


def test_a_damaged_file_is_fetched_again(hub, fetch, table):
    fetch("i3d,alexnet")
    assets.target(of("i3d")).write_bytes(b"?" + FILES["i3d"][1:])  # of the same size
    assets.target(of("alexnet")).write_bytes(b"?")
    with pytest.raises(MissingAssetError, match="--metrics i3d"):
        assets.require(of("i3d"))
    hub.forget()
    rows = table(fetch("i3d,alexnet", "--dry-run").out)
    assert [row["state"] for row in rows] == ["fetch", "fetch"]
    done = fetch("i3d,alexnet")
    assert done.code == 0
    assert f"deleting {assets.target(of('i3d'))}: its sha256 is " in done.err
    assert hub.sent == {f"/{name}.bin": len(FILES[name]) for name in ("i3d", "alexnet")}
    assert assets.require(of("i3d")).read_bytes() == FILES["i3d"]


def test_a_dry_run_fetches_nothing(hub, fetch, table, home):
    rows = table(fetch("fvd,lpips,clip", "--dry-run").out)
    expected = [
        ("i3d", "metrics/i3d/i3d_torchscript.pt"),
        ("alexnet", "metrics/alexnet/alexnet-owt-7be5be79.pth"),
        ("clip", "metrics/clip/model.safetensors"),
    ]
    assert [(row["model"], row["target"]) for row in rows[:3]] == expected
    assert {row["state"] for row in rows} == {"fetch"}
    assert rows[0]["sha256"] == hashlib.sha256(FILES["i3d"]).hexdigest()[:12]
    assert not home.exists()
    asked = [path for path in hub.paths if path != AGENTS]
    assert asked == ["/api/models/someone/clip"]
    fetch("i3d")
    (row,) = table(fetch("i3d", "--dry-run").out)
    assert (row["model"], row["state"]) == ("i3d", "here")


def test_offline_nothing_is_asked(hub, fetch, failed, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("i3d", "clip", "imagenet256"):
        done = fetch(name, "--accept-license")
        failed(done, 4, "cannot fetch ", "HF_HUB_OFFLINE is set", "--from FILE")
    assert hub.requests == []


def test_no_token_is_sent_to_an_address(hub, fetch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch("i3d").code == 0
    assert {token for *_, token in hub.requests} == {None}


def test_too_little_space_is_known_before_anything_is_fetched(hub, fetch, failed, monkeypatch):
    usage = type("Usage", (), {"free": 30_000})
    monkeypatch.setattr("skipdit_cli.checkpoints.download.shutil.disk_usage", lambda path: usage)
    failed(fetch("lpips"), 1, "(50000 bytes)", "(30000 bytes) are free", "SKIPDIT_HOME")
    assert hub.requests == []


def test_a_file_that_is_here_is_taken_without_a_network(hub, fetch, failed, tmp_path):
    mine = tmp_path / "mine.pt"
    mine.write_bytes(FILES["i3d"])
    done = fetch("fvd", "--from", mine)
    assert (done.code, done.out, hub.requests) == (0, f"i3d {assets.require(of('i3d'))}\n", [])
    failed(fetch("alexnet", "--from", mine), 2, "mine.pt: is not alexnet: it has 594 bytes")
    for several in ("fid", "i3d,alexnet", "psnr,fid"):
        failed(fetch(several, "--from", mine), 2, "--from is for one model, or one file")
    failed(fetch("i3d", "--dry-run", "--from", mine), 2, "--dry-run: with --from nothing")


def test_names(fetch, skipdit, failed):
    failed(fetch("fdv"), 2, "--metrics: unknown metric 'fdv'; did you mean 'fvd'?")
    failed(fetch(""), 2, "--metrics: an empty value; give one, or leave it out")
    failed(fetch("fid,"), 2, "--metrics: unknown metric ''; known: ")
    failed(
        fetch("ucf101,fid"),
        2,
        "--metrics: the real clips of ucf101 are made of your own copy",
        "run `skipdit download --metrics ucf101 --from FOLDER`",
    )
    failed(fetch("ffs,taichi", "--from", "."), 2, "--from: a folder is the copy of one data set")
    failed(skipdit("download i3d"), 2, "'i3d' is not a model; write --metrics i3d")
    done = fetch("psnr,ssim")
    assert (done.code, done.out, done.err) == (0, "", "nothing from outside is needed\n")


def test_a_recipe_brings_what_its_metrics_need(sources, skipdit, monkeypatch):
    """In the order of the table's columns, psnr here being one that needs something."""
    for name, needs in {"psnr": "alexnet", "vbench": "i3d", "lpips": ""}.items():
        metric = registry.load("metrics", name)
        monkeypatch.setattr(metric, "ASSETS", ())
        monkeypatch.setattr(metric, "REFERENCES", (of(needs),) if needs else ())
    monkeypatch.setattr("skipdit_cli.recipe.needs.checkpoints", lambda recipe: ())
    done = skipdit("download --recipe table3")
    assert [line.split()[0] for line in done.out.splitlines()] == ["i3d", "alexnet"], done
