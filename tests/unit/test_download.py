"""Fetching and converting: the network is replaced, the files and their conversion are real."""

import argparse
from dataclasses import replace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from skipdit_cli import registry, weights
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.weights.download import convert, download

# the real card's name and file names, on a network small enough for a test
CARD = replace(
    weights.card("digits-skip"),
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
    """A training file as the official scripts write it, with official key names."""
    torch.manual_seed(0)
    ours = weights.build(CARD, device="cpu").state_dict()
    half = registry.load("models", "dit").VARIANTS[CARD.variant]["depth"] // 2
    state = {}
    for key, value in ours.items():
        if ".skip." in key:
            _, layer, _, part, name = key.split(".")
            index = int(layer) - half
            key = {
                "norm": f"skip_norms.{index}.{name}",
                "linear": f"skip_linears.{index}.linear.{name}",
            }[part]
        state[key] = torch.randn_like(value)
    path = tmp_path / "official.pt"
    model = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"model": model, "ema": state, "args": argparse.Namespace(a=1)}, path)
    return path, state


def test_conversion_keeps_the_moving_average_and_loads_in_diffusers(official, home):
    path, state = official
    target = convert(CARD, path)
    assert target == home / "weights" / "skytimelapse-skip" / weights.WEIGHTS_FILE
    model = registry.load("models", "dit").MODEL.from_pretrained(target.parent)
    half = len(model.blocks) // 2
    first, last = model.blocks[half].skip, model.blocks[-1].skip
    assert torch.equal(first.linear.weight, state["skip_linears.0.linear.weight"])
    assert torch.equal(last.norm.bias, state[f"skip_norms.{half - 1}.bias"])
    assert torch.equal(model.pos_embed, state["pos_embed"])
    assert sorted(p.name for p in target.parent.iterdir()) == ["config.json", target.name]


def test_a_second_download_is_not_made(official, monkeypatch):
    target = convert(CARD, official[0])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("fetched"))
    assert download(CARD) == target


def test_the_second_file_name_is_tried(official, monkeypatch):
    asked = []

    def fetch(repo, name, *, local_dir):
        asked.append((repo, name))
        if name == "skytimelapse-skip.pt":
            error = RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
            raise error
        return str(official[0])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    download(CARD, accept_license=True)
    assert [name for _, name in asked] == ["skytimelapse-skip.pt", "skylapse-skip.pt"]
    assert weights.locate("skytimelapse-skip") is not None


def test_a_licence_has_to_be_accepted():
    with pytest.raises(UsageError, match=r"CC-BY-NC-4\.0.*--accept-license"):
        download(CARD)


def test_no_network_is_said_in_one_line(monkeypatch):
    def fetch(*args, **kwargs):
        raise LocalEntryNotFoundError("offline\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with pytest.raises(MissingAssetError) as caught:
        download(CARD, accept_license=True)
    expected = "cannot fetch someone/somewhere/skytimelapse-skip.pt (offline)"
    assert expected in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_wrong_file_is_refused_and_leaves_nothing(official, damage, home):
    path, state = official
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        torch.save({"ema": {**state, "strange": torch.zeros(1)}}, path)
    with pytest.raises(UsageError, match="truncated" if damage == "truncated" else "strange"):
        convert(CARD, path)
    assert not (home / "weights").exists()


def test_a_full_disk_is_said_and_leaves_no_half_file(official, home, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("skipdit_cli.weights.download.os.replace", full)
    with pytest.raises(StoreError, match="No space left"):
        convert(CARD, official[0])
    assert not list(home.rglob("*.safetensors*"))
