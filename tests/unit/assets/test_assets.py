"""What metrics need from outside. tests/e2e/download has the command and a server."""

import hashlib
import itertools
import json
import os
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.assets import download as assets_download
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import MissingAssetError, SkipditWarning, UsageError
from skipdit_cli.metrics import Asset
from skipdit_cli.recipe import needs
from skipdit_cli.recipe.shape import Column
from skipdit_cli.report import doctor

CONTENT = b"content" * 9
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TIMES = itertools.count(1_000_000_000, 1_000_000_000)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def small(put_asset):
    """small(name) makes the file of an asset CONTENT."""
    return lambda name: put_asset(name, size=len(CONTENT), digest=SHA256)


def of(name):
    return assets.declared()[name]


def names(found):
    return [asset.name for asset in found]


def place(name, content=CONTENT):
    path = assets.target(of(name))
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


@pytest.mark.parametrize("name", assets.declared())
def test_every_asset_is_described(name):
    asset = of(name)
    assert asset.name == name
    assert re.fullmatch(r"https?://\S+/\S+|[\w-]+/[\w.-]+", asset.source)
    assert asset.size > 1_000_000
    assert asset.what
    assert assets.users(asset)
    # the first 8 digits, where the name of the file has them
    named = re.search(r"-([0-9a-f]{8})\.pth", asset.file)
    assert not named or asset.digest.startswith(named[1])


def test_a_metric_names_its_assets():
    assert names(assets.for_metric("lpips")) == ["alexnet"]
    assert names(assets.for_metric("fid")) == ["inception", "imagenet256"]
    assert names(assets.for_metric("fid@coco")) == ["inception", "coco-val2014"]
    assert names(assets.for_metric("fvd@latte")) == ["i3d"]
    assert assets.for_metric("psnr") == ()
    assert assets.for_metric("latency") == ()
    assert assets.resolve(["psnr"]) == ()
    assert names(assets.resolve(["sfid", "i3d", "fid"])) == ["inception", "imagenet256", "i3d"]
    assert names(assets.resolve(["all"])) == list(assets.declared())
    assert assets.users(of("alexnet")) == ["lpips", "lpips@videosys"]
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
    assert names(needs.assets(SimpleNamespace(columns=columns))) == ["alexnet", "i3d"]


def test_an_absent_asset_is_told_with_the_command_and_the_size():
    assert assets.locate(of("i3d")) is None
    assert assets.state(of("i3d")) == ("absent", "")
    assert assets.fingerprint(of("i3d")) == "absent"
    assert not assets.verified(of("i3d"))
    with pytest.raises(MissingAssetError) as caught:
        assets.require(of("i3d"))
    told = "is not here; run `skipdit download --metrics i3d` (51.2 MB)"
    assert str(caught.value).endswith(told)
    assert caught.value.exit_code == 4


def test_a_file_of_another_size_is_damaged(small):
    small("alexnet")
    place("alexnet", CONTENT[:-1])
    assert assets.state(of("alexnet")) == ("damaged", "it has 62 bytes, not 63")
    with pytest.raises(MissingAssetError, match=r"damaged \(it has 62 bytes, not 63\); run"):
        assets.require(of("alexnet"))


def test_what_runs_code_has_to_have_its_hash(small):
    small("alexnet")
    small("i3d")
    changed = b"?" + CONTENT[1:]
    path = place("alexnet", changed)
    assert assets.require(of("alexnet")) == path
    place("i3d", changed)
    assert assets.state(of("i3d"))[0] == "here"  # only the size was looked at
    with pytest.raises(MissingAssetError, match=r"its hash is not the known one.*--metrics i3d"):
        assets.require(of("i3d"))
    assert assets.lacking(of("i3d"))
    place("i3d")
    assert assets.require(of("i3d")) == assets.target(of("i3d"))


def test_what_runs_code_is_read_though_its_size_and_time_are_as_written_down(small):
    small("i3d")
    path = place("i3d")
    assets.write_record(of("i3d"))
    before = path.stat()
    path.write_bytes(b"?" + CONTENT[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert assets.unchanged(of("i3d"))
    with pytest.raises(MissingAssetError, match="its hash is not the known one"):
        assets.require(of("i3d"))
    assert assets.lacking(of("i3d"))


def test_a_record_says_what_the_file_is(small):
    small("alexnet")
    place("alexnet")
    assert assets.lacking(of("alexnet")) is False  # its hash is known
    assets_download.execute(assets_download.plan(of("alexnet"), {}))
    told = json.loads(assets.record_path(of("alexnet")).read_text())
    asset = of("alexnet")
    assert told["sha256"] == SHA256
    assert (told["source"], told["licence"], told["size"]) == (asset.source, asset.licence, 63)
    assert assets.fingerprint(of("alexnet")) == SHA256[:16]
    place("alexnet", b"other")
    assert assets.fingerprint(of("alexnet")) == hashlib.sha256(b"other").hexdigest()[:16]


def test_a_file_that_was_changed_is_fetched_again(small):
    small("alexnet")
    place("alexnet")
    assets.write_record(of("alexnet"))
    assert not assets.lacking(of("alexnet"))
    place("alexnet", b"?" + CONTENT[1:])
    assert assets.lacking(of("alexnet"))
    (item,) = assets_download.plan(of("alexnet"), {}).items
    assert (item.file.address, item.file.digest) == (of("alexnet").source, SHA256)


def test_a_file_whose_time_was_lost_is_read_once(small):
    small("alexnet")
    place("alexnet")
    assets.write_record(of("alexnet"))
    place("alexnet")  # the same content, later
    assert not assets.unchanged(of("alexnet"))
    assets_download.execute(assets_download.plan(of("alexnet"), {}))
    assert assets.unchanged(of("alexnet"))


def test_a_damaged_record_is_no_record(small):
    small("alexnet")
    place("alexnet")
    for content in ("{", "[]", '{"sha256": 1}'):
        assets.record_path(of("alexnet")).write_text(content)
        with pytest.warns(SkipditWarning, match="is not a readable record of an asset"):
            assert assets.fingerprint(of("alexnet")) == SHA256[:16]
        with pytest.warns(SkipditWarning, match="it counts as absent"):
            assert not assets.lacking(of("alexnet"))


def test_of_a_repository_every_file_counts():
    folder = clip(assets.folder(of("clip")))
    assert assets.state(of("clip")) == ("here", "")
    assert assets.require(of("clip")) == folder
    assert not assets.verified(of("clip"))  # nothing tells what it should be
    before = assets.fingerprint(of("clip"))
    assets.write_record(of("clip"))
    assert assets.verified(of("clip"))
    assert assets.fingerprint(of("clip")) == before
    assert len(assets.record(of("clip"))["sha256"]) == 64
    (folder / "config.json").write_text('{"a": 1}')
    assert not assets.verified(of("clip"))
    assert assets.fingerprint(of("clip")) != before
    (folder / local.INCOMPLETE).touch()
    assert assets.state(of("clip")) == ("absent", "")


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
    clip(assets.folder(of("clip")), lacking=lacking)
    assert assets.state(of("clip")) == ("damaged", told)
    with pytest.raises(UsageError, match=f"is not clip: {told}"):
        assets_download.take(of("clip"), clip(tmp_path / "mine", lacking=lacking))


def test_what_is_here_already_is_taken(small, tmp_path):
    small("i3d")
    (tmp_path / "mine").write_bytes(CONTENT)
    path = assets_download.take(of("i3d"), tmp_path / "mine")
    assert path == assets.require(of("i3d"))
    assert path.samefile(tmp_path / "mine")  # no second copy
    assert assets.record(of("i3d"))["sha256"] == SHA256
    assert assets_download.take(of("i3d"), path) == path  # from where it is
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    folder = assets_download.take(of("clip"), clip(tmp_path / "clip"))
    assert assets.state(of("clip")) == ("here", "")
    assert assets.verified(of("clip"))
    assert not (folder / "flax_model.msgpack").exists()


def test_another_file_is_not_taken(small, tmp_path, home):
    small("i3d")
    mine = tmp_path / "mine"
    with pytest.raises(UsageError, match="mine: no such file"):
        assets_download.take(of("i3d"), mine)
    mine.write_bytes(CONTENT[1:])
    with pytest.raises(UsageError, match="is not i3d: it has 62 bytes, not 63; see https://"):
        assets_download.take(of("i3d"), mine)
    mine.write_bytes(b"?" + CONTENT[1:])
    with pytest.raises(UsageError, match="is not i3d: its sha256 is "):
        assets_download.take(of("i3d"), mine)
    with pytest.raises(UsageError, match="no such folder"):
        assets_download.take(of("clip"), mine)
    assert not home.exists()


def told(checks, name):
    (found,) = ((state, detail) for check, state, detail in checks if check == name)
    return found


def test_the_doctor_says_what_is_here_absent_and_damaged(small):
    small("alexnet")
    command = "skipdit download --metrics alexnet (0.0 MB)"
    checks = doctor.metrics()
    assert [check for check, *_ in checks] == [f"metrics: {name}" for name in assets.declared()]
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


def test_the_doctor_says_which_recipe_lacks_an_asset(put_asset, monkeypatch):
    monkeypatch.setattr(registry.load("metrics", "psnr"), "REFERENCES", (of("alexnet"),))
    put_asset("alexnet", size=1_000_000_000)
    state, detail = told(doctor.recipes(), "recipe table3")
    assert (state, ", alexnet: skipdit download --recipe table3" in detail) == ("tiny only", True)
    before = re.search(r"\(about ([\d.]+) GB\)$", detail)[1]
    place("alexnet")
    put_asset("alexnet", size=len(CONTENT))
    detail = told(doctor.recipes(), "recipe table3")[1]
    assert "alexnet" not in detail
    after = re.search(r"\(about ([\d.]+) GB\)$", detail)[1]
    assert float(before) - float(after) == pytest.approx(1)


SMALL = {
    "name": "edges",
    "what": "nine numbers",
    "source": "https://example.org/edges.npz",
    "file": "edges.npz",
    "size": 63,
    "digest": SHA256,
    "licence": "MIT",
}


@pytest.fixture
def local_file(tmp_path):
    """A small file on this machine, as an asset names it."""
    path = tmp_path / "with space" / "edges.npz"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path, Asset(**SMALL | {"source": path.as_uri()})


def test_a_small_file_of_this_machine_is_an_asset(local_file):
    path, asset = local_file
    plan = assets_download.plan(asset, {})
    assert [item.file.size for item in plan.items] == [63]
    target = assets_download.execute(plan)
    assert target == assets.require(asset) == assets.target(asset)
    assert target.read_bytes() == CONTENT
    assert assets.record(asset)["sha256"] == SHA256
    assert assets_download.plan(asset, {}).items == ()
    path.unlink()
    assert assets.require(asset) == target


def test_a_file_of_this_machine_is_compared_with_its_hash(local_file):
    path, asset = local_file
    path.write_bytes(b"?" + CONTENT[1:])
    with pytest.raises(
        MissingAssetError, match=r"with%20space/edges\.npz is not edges: its sha256"
    ):
        assets_download.execute(assets_download.plan(asset, {}))
    assert assets.locate(asset) is None
    path.unlink()
    with pytest.raises(MissingAssetError, match=r"cannot fetch edges from file://.*no such file"):
        assets_download.plan(asset, {})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"digest": ""}, "needs the name of its `file` and its sha256"),
        ({"digest": "7be5be79"}, "needs the name of its `file` and its sha256"),
        ({"file": ""}, "needs the name of its `file` and its sha256"),
        ({"source": "somewhere"}, "'somewhere', which is neither an address nor OWNER/NAME"),
        ({"source": "someone/edges"}, "is a hub repository, which has neither `file` nor"),
        ({"size": 0}, "a size in bytes"),
        ({"licence": ""}, "a licence"),
        ({"name": "my edges"}, "a name without spaces"),
    ],
)
def test_an_asset_that_cannot_be_fetched_or_checked_is_refused(fields, told):
    with pytest.raises(UsageError, match=f"the asset '(my )?edges'.*{re.escape(told)}"):
        Asset(**SMALL | fields)


def test_a_name_stands_for_one_asset(monkeypatch):
    other = Asset(**SMALL | {"name": "alexnet"})
    monkeypatch.setattr(registry.load("metrics", "psnr"), "REFERENCES", (other,))
    with pytest.raises(UsageError, match="'alexnet' is one thing in lpips and another in psnr"):
        assets.declared()


def test_what_a_repository_holds_beside_its_weights(tmp_path):
    """Only what its metric says: a network of images has no vocabulary."""
    hub = {"source": "someone/edges", "file": "", "digest": ""}
    folder = clip(tmp_path / "mine", lacking="vocab.json")
    assert assets.damage(Asset(**SMALL | hub), folder) == ""
    told = assets.damage(Asset(**SMALL | hub, holds=("labels.txt",)), folder)
    assert told == "labels.txt is missing"
    told = assets.damage(Asset(**SMALL | hub, holds=("tokenizer",)), folder)
    assert told == "there is no vocabulary"
