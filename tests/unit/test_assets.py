"""What metrics need from outside. tests/e2e/download has the command and a server."""

import hashlib
import itertools
import json
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from skipdit_cli import doctor, weights
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.recipe import Column
from skipdit_cli.weights import assets, assets_download

CONTENT = b"content" * 9
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TIMES = itertools.count(1_000_000_000, 1_000_000_000)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def put_asset(monkeypatch):
    """put_asset(name, size=, digest=, ...) replaces fields of an asset."""

    def put(name, **fields):
        changed = {**assets.ASSETS, name: replace(assets.ASSETS[name], **fields)}
        monkeypatch.setattr(assets, "ASSETS", changed)

    return put


@pytest.fixture
def small(put_asset):
    """small(name) makes the file of an asset CONTENT."""
    return lambda name: put_asset(name, size=len(CONTENT), digest=SHA256)


def place(name, content=CONTENT):
    path = assets.target(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(0, next(TIMES)))  # a file of the same size that came later
    return path


def clip(folder, *, lacking=""):
    """The files of the hub repository, small, and one that is of no use here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json"):
        (folder / name).write_text("{}")
    (folder / "merges.txt").write_text("a b\n")
    (folder / "flax_model.msgpack").write_bytes(b"x")
    save_file({"a": torch.ones(9)}, folder / "model.safetensors")
    if lacking:
        (folder / lacking).unlink()
    return folder


@pytest.mark.parametrize("name", assets.ASSETS)
def test_every_asset_is_described(name):
    asset = assets.ASSETS[name]
    assert asset.name == name
    assert re.fullmatch(r"https?://\S+/\S+|[\w-]+/[\w.-]+", asset.source)
    assert (asset.file == "") == ("://" not in asset.source)
    assert re.fullmatch(r"[0-9a-f]{64}" if asset.file else "", asset.digest)
    assert asset.size > 1_000_000
    assert asset.what
    assert asset.licence
    assert asset.used_by
    # the first 8 digits, where the name of the file has them
    named = re.search(r"-([0-9a-f]{8})\.pth", asset.file)
    assert not named or asset.digest.startswith(named[1])


def test_a_metric_names_its_assets():
    assert assets.for_metric("lpips") == ("alexnet",)
    assert assets.for_metric("fid") == ("inception", "imagenet256")
    assert assets.for_metric("fid@coco") == ("inception", "coco-val2014")
    assert assets.for_metric("fvd@latte") == ("i3d",)
    assert assets.for_metric("psnr") == ()
    assert assets.resolve(["psnr"]) == ()
    assert assets.resolve(["sfid", "i3d", "fid"]) == ("inception", "imagenet256", "i3d")
    assert assets.resolve(["all"]) == tuple(assets.ASSETS)
    with pytest.raises(UsageError, match="--metrics: unknown metric 'fdi'; did you mean"):
        assets.resolve(["fdi"], place="--metrics")


def test_a_recipe_needs_the_assets_of_what_can_be_measured():
    columns = (
        Column("a", "a", "lpips"),
        Column("b", "b", "fid", planned="not yet"),
        Column("c", "c", "psnr"),
        Column("d", "d", "fvd"),
        Column("e", "e", "fvd", group="sky"),
    )
    assert assets.for_recipe(SimpleNamespace(columns=columns)) == ("alexnet", "i3d")


def test_an_absent_asset_is_told_with_the_command_and_the_size():
    assert assets.locate("i3d") is None
    assert assets.state("i3d") == ("absent", "")
    assert assets.fingerprint("i3d") == "absent"
    assert not assets.verified("i3d")
    with pytest.raises(MissingAssetError) as caught:
        assets.require("i3d")
    told = "is not here; run `skipdit download --metrics i3d` (51.2 MB)"
    assert str(caught.value).endswith(told)
    assert caught.value.exit_code == 4


def test_a_file_of_another_size_is_damaged(small):
    small("alexnet")
    place("alexnet", CONTENT[:-1])
    assert assets.state("alexnet") == ("damaged", "it has 62 bytes, not 63")
    with pytest.raises(MissingAssetError, match=r"damaged \(it has 62 bytes, not 63\); run"):
        assets.require("alexnet")


def test_what_runs_code_has_to_have_its_hash(small):
    small("alexnet")
    small("i3d")
    changed = b"?" + CONTENT[1:]
    path = place("alexnet", changed)
    assert assets.require("alexnet") == path
    place("i3d", changed)
    assert assets.state("i3d")[0] == "here"  # only the size was looked at
    with pytest.raises(MissingAssetError, match=r"its hash is not the known one.*--metrics i3d"):
        assets.require("i3d")
    assert assets.lacking("i3d")
    place("i3d")
    assert assets.require("i3d") == assets.target("i3d")


def test_a_record_says_what_the_file_is(small):
    small("alexnet")
    place("alexnet")
    assert assets.lacking("alexnet") is False  # its hash is known
    assets_download.execute(assets_download.plan("alexnet", {}))
    told = json.loads(assets.record_path("alexnet").read_text())
    asset = assets.ASSETS["alexnet"]
    assert told["sha256"] == SHA256
    assert (told["source"], told["licence"], told["size"]) == (asset.source, asset.licence, 63)
    assert assets.fingerprint("alexnet") == SHA256[:16]
    place("alexnet", b"other")
    assert assets.fingerprint("alexnet") == hashlib.sha256(b"other").hexdigest()[:16]


def test_a_file_that_was_changed_is_fetched_again(small):
    small("alexnet")
    place("alexnet")
    assets.write_record("alexnet")
    assert not assets.lacking("alexnet")
    place("alexnet", b"?" + CONTENT[1:])
    assert assets.lacking("alexnet")
    (item,) = assets_download.plan("alexnet", {}).items
    assert (item.file.address, item.file.digest) == (assets.ASSETS["alexnet"].source, SHA256)


def test_a_file_whose_time_was_lost_is_read_once(small):
    small("alexnet")
    place("alexnet")
    assets.write_record("alexnet")
    place("alexnet")  # the same content, later
    assert not assets.unchanged("alexnet")
    assets_download.execute(assets_download.plan("alexnet", {}))
    assert assets.unchanged("alexnet")


def test_a_damaged_record_is_no_record(small):
    small("alexnet")
    place("alexnet")
    for content in ("{", "[]", '{"sha256": 1}'):
        assets.record_path("alexnet").write_text(content)
        assert assets.fingerprint("alexnet") == SHA256[:16]
        assert not assets.lacking("alexnet")


def test_of_a_repository_every_file_counts():
    folder = clip(assets.folder("clip"))
    assert assets.state("clip") == ("here", "")
    assert assets.require("clip") == folder
    assert not assets.verified("clip")  # nothing tells what it should be
    before = assets.fingerprint("clip")
    assets.write_record("clip")
    assert assets.verified("clip")
    assert assets.fingerprint("clip") == before
    assert len(assets.record("clip")["sha256"]) == 64
    (folder / "config.json").write_text('{"a": 1}')
    assert not assets.verified("clip")
    assert assets.fingerprint("clip") != before
    (folder / weights.INCOMPLETE).touch()
    assert assets.state("clip") == ("absent", "")


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ("config.json", "config.json is missing"),
        ("preprocessor_config.json", "preprocessor_config.json is missing"),
        ("model.safetensors", "there are no weights"),
        ("vocab.json", "there is no vocabulary"),
    ],
)
def test_a_repository_that_is_not_whole(lacking, told, tmp_path):
    clip(assets.folder("clip"), lacking=lacking)
    assert assets.state("clip") == ("damaged", told)
    with pytest.raises(UsageError, match=f"is not clip: {told}"):
        assets_download.take("clip", clip(tmp_path / "mine", lacking=lacking))


def test_what_is_here_already_is_taken(small, tmp_path):
    small("i3d")
    (tmp_path / "mine").write_bytes(CONTENT)
    path = assets_download.take("i3d", tmp_path / "mine")
    assert path == assets.require("i3d")
    assert path.samefile(tmp_path / "mine")  # no second copy
    assert assets.record("i3d")["sha256"] == SHA256
    assert assets_download.take("i3d", path) == path  # from where it is
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    folder = assets_download.take("clip", clip(tmp_path / "clip"))
    assert assets.state("clip") == ("here", "")
    assert assets.verified("clip")
    assert not (folder / "flax_model.msgpack").exists()


def test_another_file_is_not_taken(small, tmp_path, home):
    small("i3d")
    mine = tmp_path / "mine"
    with pytest.raises(UsageError, match="mine: no such file"):
        assets_download.take("i3d", mine)
    mine.write_bytes(CONTENT[1:])
    with pytest.raises(UsageError, match="is not i3d: it has 62 bytes, not 63; see https://"):
        assets_download.take("i3d", mine)
    mine.write_bytes(b"?" + CONTENT[1:])
    with pytest.raises(UsageError, match="is not i3d: its sha256 is "):
        assets_download.take("i3d", mine)
    with pytest.raises(UsageError, match="no such folder"):
        assets_download.take("clip", mine)
    assert not home.exists()


def told(checks, name):
    (found,) = ((state, detail) for check, state, detail in checks if check == name)
    return found


def test_the_doctor_says_what_is_here_absent_and_damaged(small):
    small("alexnet")
    command = "skipdit download --metrics alexnet (0.0 MB)"
    checks = doctor.metrics()
    assert [check for check, *_ in checks] == [f"metrics: {name}" for name in assets.ASSETS]
    absent = f"AlexNet under LPIPS, for lpips, lpips@videosys: {command}"
    assert told(checks, "metrics: alexnet") == ("absent", absent)
    place("alexnet", b"x")
    what = "AlexNet under LPIPS, for lpips, lpips@videosys"
    damaged = f"{what}; damaged (it has 1 bytes, not 63): {command}"
    assert told(doctor.metrics(), "metrics: alexnet") == ("broken", damaged)
    place("alexnet")
    assert told(doctor.metrics(), "metrics: alexnet") == (
        "ok",
        "AlexNet under LPIPS, for lpips, lpips@videosys",
    )


def test_the_doctor_says_which_recipe_lacks_an_asset(put_asset):
    put_asset("alexnet", used_by=("psnr",), size=1_000_000_000)
    state, detail = told(doctor.recipes(), "recipe table3")
    assert (state, ", alexnet: skipdit download --recipe table3" in detail) == ("tiny only", True)
    before = re.search(r"\(([\d.]+) GB\)$", detail)[1]
    place("alexnet")
    put_asset("alexnet", size=len(CONTENT))
    detail = told(doctor.recipes(), "recipe table3")[1]
    assert "alexnet" not in detail
    after = re.search(r"\(([\d.]+) GB\)$", detail)[1]
    assert float(before) - float(after) == pytest.approx(1)
