"""Planning, fetching one file, and converting. tests/e2e/download has the command and a server."""

import argparse
import hashlib
import inspect
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from skipdit_cli import registry
from skipdit_cli.assets import assets, clips
from skipdit_cli.checkpoints import catalog, licences, local, networks
from skipdit_cli.checkpoints import download as downloads
from skipdit_cli.checkpoints._fetch import fetch, left, mismatch
from skipdit_cli.checkpoints._sources import Listing, RemoteFile, component_files, denoiser_file
from skipdit_cli.checkpoints.catalog import Component
from skipdit_cli.checkpoints.download import Item, Plan, convert, space_needed
from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
FAMILIES = {"c2i": "dit", "c2v": "latte", "t2v": "latte_t2v", "t2i": "hunyuan_dit"}
# the real card's name and file names, on a network small enough for a test
CARD = replace(
    catalog.card("digits-skip"),
    name="skytimelapse-skip",
    source="someone/somewhere",
    files=("skytimelapse-skip.pt", "skylapse-skip.pt"),
    licence="CC-BY-NC-4.0",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def official(tmp_path):
    """A training file as the official scripts write it, and its moving average."""
    torch.manual_seed(0)
    half = registry.load("models", "dit").VARIANTS[CARD.variant]["depth"] // 2
    state = {}
    for key, value in networks.build(CARD).state_dict().items():
        if ".skip." in key:
            _, layer, _, part, name = key.split(".")
            index, middle = int(layer) - half, "linear." if part == "linear" else ""
            key = f"skip_{part}s.{index}.{middle}{name}"
        state[key] = torch.randn(value.shape)
    return write(tmp_path / "official.pt", state), state


def write(path, ema, **more):
    """A training file: the model is all zeros."""
    model = {key: torch.zeros_like(value) for key, value in ema.items()}
    torch.save({"model": model, "ema": ema, "args": argparse.Namespace(a=1), **more}, path)
    return path


@pytest.mark.few(1)
@pytest.mark.parametrize("task", FAMILIES)
def test_a_training_file_of_every_family_becomes_a_model_of_diffusers(
    task, tmp_path, home, monkeypatch
):
    """Against the model that the parity tests hold against the official code."""
    family = registry.load("models", FAMILIES[task])
    case = json.loads((GOLDEN / task / "case.json").read_text())
    state = load_file(GOLDEN / task / "weights.safetensors")
    arguments = {**case["ctor"], "skip": True}
    arguments |= {"extras": 2} if task == "c2v" else {}
    arguments |= {"args": case["args"]} if task == "t2i" else {}
    expected = from_official(FAMILIES[task], arguments, state)
    known = inspect.signature(family.MODEL.__init__).parameters
    ours = {key: expected.config[key] for key in known if key in expected.config}
    monkeypatch.setitem(family.VARIANTS, "golden", ours)
    card = replace(CARD, family=FAMILIES[task], variant="golden", arguments={})
    target = convert(card, write(tmp_path / "official.pt", state))
    assert target == home / "weights" / "skytimelapse-skip" / local.WEIGHTS_FILE
    assert sorted(p.name for p in target.parent.iterdir()) == ["config.json", target.name]
    loaded = family.MODEL.from_pretrained(target.parent).state_dict()
    wanted = expected.state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_wrong_file_is_refused_and_leaves_nothing(official, damage, home):
    path, state = official
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        write(path, {**state, "strange": torch.zeros(1)})
    with pytest.raises(UsageError, match="truncated" if damage == "truncated" else "strange"):
        convert(CARD, path)
    assert not (home / "weights").exists()


def throw(error):
    raise error


def test_a_full_disk_is_said_and_leaves_no_half_file(official, home, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreError, match=r"safetensors: no space left on device; free some"):
            convert(CARD, official[0])
    assert not list(home.rglob("*.safetensors*"))
    in_its_words = SafetensorError("I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("safetensors.torch.save_file", lambda *_, **__: throw(in_its_words))
    with pytest.raises(StoreError, match=r"safetensors: cannot be written \(I/O error: No space"):
        convert(CARD, official[0])
    assert not list(home.rglob("*.safetensors*"))


def test_a_second_download_is_not_made(official, monkeypatch):
    target = convert(CARD, official[0])
    monkeypatch.setattr(downloads, "list_repository", lambda name: pytest.fail("asked"))
    assert downloads.execute(downloads.plan(CARD, {})) == target


@pytest.mark.parametrize("licence", licences.RESTRICTED)
def test_a_licence_has_to_be_accepted(licence):
    with pytest.raises(UsageError, match=rf"licence of some file is {licence}.*--accept-license"):
        licences.check("some file", licence, accepted=False)
    licences.check("some file", licence, accepted=True)


def test_every_licence_is_one_that_is_known():
    """A new one is either put under the rule, or known to need no acceptance."""
    free = {"Apache-2.0", "BSD-3-Clause", "MIT", "terms of use of Flickr"}
    free.add("not stated (I3D itself: Apache-2.0)")
    released = {card.licence for card in catalog.CARDS.values() if not card.embedded}
    on_hub = {each.licence for each in clips.ON_HUB.values()}
    assert released | on_hub | {each.licence for each in assets.declared().values()} == {
        *free,
        *licences.RESTRICTED,
    }


SIZE = 2_771_053_040


def listed(*, size=SIZE, digest="4f65d391" + "0" * 56):
    file = RemoteFile("ucf101-skip.pt", "there", size, digest, repository="someone/skip")
    return Listing("someone/skip", {file.path: file})


def test_what_is_known_of_a_file_is_compared_before_it_is_fetched():
    card = catalog.card("ucf101-skip")
    assert denoiser_file(card, listed()).digest.startswith("4f65d391")
    for other, told in (
        (listed(size=SIZE + 1), rf"has {SIZE + 1} bytes, not the {SIZE} that"),
        (listed(digest="4f65d390" + "0" * 56), r"has the sha256 4f65d3900000…, not 4f65d391…"),
    ):
        with pytest.raises(MissingAssetError, match=told) as caught:
            denoiser_file(card, other)
        assert str(caught.value).startswith("skipdit download ucf101-skip: someone/skip/ucf101-")
        assert str(caught.value).endswith("give the file with --from FILE")
    unsaid = denoiser_file(card, listed(size=None, digest=""))
    assert (unsaid.size, unsaid.digest) == (SIZE, "4f65d391")  # compared when it is here
    about = catalog.card("latte-skip")
    file = RemoteFile("Latte-skip.pt", "there", 5)
    assert denoiser_file(about, Listing("a/b", {file.path: file})) == file


def test_the_first_digits_of_a_hash_are_compared_too(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert mismatch(RemoteFile("a", "there", digest="ba7816bf"), tmp_path / "a") == ""
    assert mismatch(RemoteFile("a", "there", digest="ba7816be"), tmp_path / "a").startswith(
        "its sha256 is ba7816bf8f01…, not ba7816be…"
    )


def test_what_the_sources_state_of_the_released_files():
    """Sizes and hashes: the hubs' public lists of commits."""
    known = {
        "dit-xl-2-skip": (11_396_127_829, "ad6cfacc"),
        "ucf101-skip": (2_771_053_040, "4f65d391"),
        "taichi-skip": (2_770_582_642, "39526a5d"),
        "ffs-skip": (2_770_582_642, ""),
        "ffs": (2_696_092_281, ""),
    }
    exact = {name: card for name, card in catalog.CARDS.items() if card.exact}
    assert {name: (card.size, card.digest) for name, card in exact.items()} == known
    skips = [card for card in catalog.CARDS.values() if card.source == "GuanjieChen/Skip-DiT"]
    assert {(card.licence, card.elsewhere) for card in skips} == {
        ("CC-BY-NC-4.0", "Apache-2.0 on its model page")
    }
    latte = [card for card in catalog.CARDS.values() if card.source == "maxin-cn/Latte"]
    assert {(len(latte), card.licence, card.elsewhere) for card in latte} == {(4, "MIT", "")}
    assert local.denoiser_size(catalog.card("hunyuan-dit")) == "about 6.00 GB"
    assert local.denoiser_size(catalog.card("ffs")) == "2.70 GB"


def test_no_network_is_said_in_one_line():
    with pytest.raises(MissingAssetError) as caught:  # all tests run with HF_HUB_OFFLINE
        downloads.plan(CARD, {})
    assert str(caught.value).startswith("cannot fetch someone/somewhere: HF_HUB_OFFLINE is set; ")
    assert caught.value.exit_code == 4


def listing(*paths, note=""):
    return Listing("a/b", {path: RemoteFile(path, f"x/{path}") for path in paths}, note=note)


@pytest.mark.parametrize(
    ("has", "taken"),
    [
        (["skylapse-skip.pt"], "skylapse-skip.pt"),
        (["skylapse-skip.pt", "skytimelapse-skip.pt"], "skytimelapse-skip.pt"),
    ],
)
def test_the_first_known_name_that_is_there_is_taken(has, taken):
    assert denoiser_file(CARD, listing(*has)).path == taken


def test_an_unknown_name_is_not_guessed():
    with pytest.raises(MissingAssetError, match=r"but sky\.pt; .*--from FILE"):
        denoiser_file(CARD, listing("sky.pt", "README.md"))
    with pytest.raises(MissingAssetError, match=r"offline; huggingface_hub's cache of a/b has no"):
        denoiser_file(CARD, listing("README.md", note="offline"))


ENCODER = ["config.json", "model.safetensors", "pytorch_model.bin", "model.fp16.safetensors"]
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
BIN = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
INDEX, FP16, BIN_INDEX = (
    "model.safetensors.index.json",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin.index.json",
)


@pytest.mark.parametrize(
    ("has", "taken"),
    [
        (ENCODER, ["config.json", "model.safetensors"]),
        (["config.json", "pytorch_model.bin"], ["config.json", "pytorch_model.bin"]),
        (
            ["config.json", *SHARDS, INDEX, FP16, *BIN, BIN_INDEX, "tf_model.h5"],
            ["config.json", *SHARDS, INDEX],
        ),
        (["config.json", *BIN, BIN_INDEX], ["config.json", *BIN, BIN_INDEX]),
        (["config.json", *SHARDS, INDEX, "model.safetensors"], ["config.json", ENCODER[1]]),
        (
            ["vocab.txt", "spiece.model", "tokenizer.json", "README.md", "sub/vocab.txt"],
            ["spiece.model", "tokenizer.json", "vocab.txt"],
        ),
    ],
    ids=["whole", "bin only", "shards", "bin shards", "whole and shards", "tokenizer"],
)
@pytest.mark.parametrize("folder", ["", "text_encoder"])
def test_of_a_component_one_set_of_weights_is_taken(has, taken, folder):
    inside = [f"{folder}/{name}" if folder else name for name in has]
    there = listing(*inside, "elsewhere/config.json", "elsewhere/model.safetensors")
    found = component_files(Component("a/b", folder), there)
    assert sorted(file.name for file in found) == sorted(taken)


def test_a_folder_that_is_not_there_or_lacks_shards_is_refused():
    with pytest.raises(MissingAssetError, match="a/b, vae: there is no such folder"):
        component_files(Component("a/b", "vae"), listing("config.json"))
    with pytest.raises(MissingAssetError, match="1 of 2 shards"):
        component_files(Component("a/b"), listing("config.json", SHARDS[1]))


def test_hashes_of_both_kinds(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # `echo hello | git hash-object --stdin`
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    for digest in (git, sha256, ""):
        file = RemoteFile("a", "", 6, digest)
        assert mismatch(file, path) == ""
        assert mismatch(replace(file, size=7), path) == "it has 6 bytes, not 7"
    assert mismatch(RemoteFile("a", "", 6, "0" * 64), path).startswith(
        "its sha256 is 5891b5b522d5…"
    )
    assert mismatch(RemoteFile("a", "", 6, "0" * 40), path).startswith("its git hash is ce0136250")


def test_a_cached_file_gets_a_second_name(tmp_path):
    cached, target = tmp_path / "cached", tmp_path / "out" / "a"
    cached.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    file = RemoteFile("a", "", 3, digest, digest, "a/b", cached)
    assert left(file, target) == 0
    assert fetch(file, target) == target
    assert target.samefile(cached)


def test_room_is_needed_for_originals_and_converted_copies(home):
    """Two models of 2.56 MB converted; they share a component of 100 bytes."""
    converted = 4 * sum(value.numel() for value in networks.build(CARD).state_dict().values())
    shared = Item("vae", RemoteFile("v", "", 100), home / "components" / "v", "")
    plans = []
    for name, size in (("a", 5_000_000), ("b", 1000)):
        target = home / "downloads" / name
        item = Item("denoiser", RemoteFile(name, "", size), target, "")
        plans.append(Plan(replace(CARD, name=name), (item, shared)))
    assert space_needed(plans) == 5_000_000 + converted + 100 + 1000 + converted
    # worst after the first conversion: its original is gone when the second one comes
    assert space_needed(plans, delete_originals=True) == 5_000_000 + converted
    target = home / "downloads" / "a"
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(5_000_000))
    assert space_needed(plans[:1]) == converted + 100
