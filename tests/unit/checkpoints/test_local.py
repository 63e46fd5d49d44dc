"""Checkpoint files: what is read, what is refused and how, and where files live."""

import argparse
import hashlib
import os
import pickle
import zipfile
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.checkpoints.catalog import CARDS
from skipdit_cli.checkpoints.official import from_official, read_state
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, SkipditWarning, UsageError
from skipdit_cli.recipe import prompts
from skipdit_cli.train.settings import TrainingSettings

TINY = [name for name, card in CARDS.items() if card.embedded]


def drawn(name, seed=0):
    """An embedded model with every weight drawn, and inputs for it."""
    model = networks.build(catalog.card(name), device="cpu").requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    inputs = model.inputs(2)
    shape = inputs["hidden_states"].shape
    inputs["hidden_states"] = torch.randn(shape, generator=generator)
    inputs["timestep"] += 321
    return model, inputs


def official_keys(state, *, half):
    """Our keys back to the official ones of a class-to-image model of depth 2 * half."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if "skip" in parts:
            _, layer, _, kind, leaf = parts
            key = f"skip_{kind}s.{int(layer) - half}.{leaf}"
        renamed[key] = value
    return renamed


@pytest.fixture(scope="module")
def image_model():
    return drawn("digits-skip")


def same(model, other):
    state, found = model.state_dict(), other.state_dict()
    assert state.keys() == found.keys()
    assert {value.dtype for value in found.values()} == {torch.float32}
    return all(torch.equal(found[key], value) for key, value in state.items())


# What is read


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("official", [True, False], ids=["official keys", "our keys"])
def test_a_checkpoint_file_becomes_the_model(image_model, tmp_path, suffix, official):
    model, inputs = image_model
    state = model.state_dict()
    if official:
        state = official_keys(state, half=model.config.depth // 2)
        assert any(key.startswith("skip_norms.") for key in state)
    path = tmp_path / f"file.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    loaded = networks.load(catalog.card("digits-skip"), path=path)
    assert same(model, loaded)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)


def test_the_moving_average_of_a_training_file_is_taken(image_model, tmp_path):
    model, _ = image_model
    other, _ = drawn("digits-skip", seed=1)
    path = tmp_path / "training.pt"
    content = {
        "model": other.state_dict(),
        "ema": model.state_dict(),
        "opt": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
        "args": argparse.Namespace(model="DiT-skip", results_dir="/somewhere", epochs=1400),
    }
    torch.save(content, path)
    assert same(model, networks.load(catalog.card("digits-skip"), path=path))
    del content["ema"]
    torch.save(content, path)
    assert same(other, networks.load(catalog.card("digits-skip"), path=path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_file_becomes_float32(image_model, tmp_path, dtype):
    model, _ = image_model
    path = tmp_path / "half.safetensors"
    save_file({key: value.to(dtype) for key, value in model.state_dict().items()}, path)
    loaded = networks.load(catalog.card("digits-skip"), path=path)
    expected = {key: value.to(dtype).float() for key, value in model.state_dict().items()}
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert next(
        networks.load(catalog.card("digits-skip"), path=path, dtype="bfloat16").parameters()
    ).dtype == (torch.bfloat16)


def test_an_official_state_dict_in_half_precision_becomes_float32(image_model):
    model, inputs = image_model
    depth = model.config.depth
    arguments = {k: v for k, v in model.config.items() if not k.startswith("_")}
    state = {key: value.half() for key, value in model.state_dict().items()}
    loaded = from_official("dit", arguments, official_keys(state, half=depth // 2))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert not loaded.training
    torch.testing.assert_close(
        loaded(**inputs).sample, model(**inputs).sample, atol=1e-2, rtol=1e-2
    )


def test_a_file_of_an_old_torch_is_read(image_model, tmp_path):
    model, _ = image_model
    path = tmp_path / "old.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(model, networks.load(catalog.card("digits-skip"), path=path))


def test_skip_keys_are_dropped_for_a_vanilla_model_only(image_model, tmp_path):
    model, _ = image_model
    half = model.config.depth // 2
    state = official_keys(model.state_dict(), half=half)
    path = tmp_path / "skip.safetensors"
    save_file(state, path)
    vanilla = networks.load(catalog.card("digits"), path=path)
    assert vanilla.layout().skips == ()
    assert {key for key in state if not key.startswith("skip_")} == set(vanilla.state_dict())
    kept = {key: value for key, value in state.items() if not key.startswith("skip_")}
    save_file(kept, path)
    text = rf"{4 * half} keys missing \(blocks\.{half}\.skip\.norm\.weight, "
    with pytest.raises(UsageError, match=text):
        networks.load(catalog.card("digits-skip"), path=path)


@pytest.mark.parametrize("name", TINY)
def test_save_pretrained_and_from_pretrained(name, tmp_path):
    """A folder of diffusers' own layout, there and back: same numbers, same configuration."""
    model, inputs = drawn(name)
    model.save_pretrained(tmp_path)
    again = registry.load("models", model.layout().family).MODEL.from_pretrained(
        tmp_path, low_cpu_mem_usage=False
    )
    assert torch.equal(again(**inputs).sample, model(**inputs).sample)
    assert again.layout() == model.layout()
    assert {k: v for k, v in again.config.items() if not k.startswith("_")} == {
        k: v for k, v in model.config.items() if not k.startswith("_")
    }
    assert (tmp_path / local.WEIGHTS_FILE).is_file()


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "accelerate",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not find_spec("accelerate"), reason="not here")
        ),
    ],
)
@pytest.mark.parametrize("name", TINY)
def test_from_pretrained_gives_the_dtype_that_is_asked_for(name, tmp_path, accelerate):
    """Of every weight and table, whatever the file has, with and without accelerate."""
    model, inputs = drawn(name)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / local.WEIGHTS_FILE)
    halves = {key: value.half() for key, value in state.items()}
    first = next(iter(model.state_dict()))
    for content in (state, halves, {**halves, first: state[first]}):
        save_file(content, tmp_path / local.WEIGHTS_FILE, metadata={"format": "pt"})
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            again = type(model).from_pretrained(tmp_path, dtype=dtype, low_cpu_mem_usage=accelerate)
            tensors = [*again.parameters(), *again.buffers()]
            assert {each.dtype for each in tensors if each.is_floating_point()} == {dtype}
            given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
            assert again(**given).sample.dtype == dtype


def test_an_embedded_model_is_loaded_by_name(image_model, tmp_path, monkeypatch):
    model, _ = image_model
    monkeypatch.setattr(shipped, "embedded", lambda: tmp_path)
    assert local.locate(catalog.card("digits-skip")) is None
    assert local.fingerprint(catalog.card("digits-skip")) == "absent"
    networks.build(catalog.card("digits-skip"), device="cpu").half().save_pretrained(
        tmp_path / "digits-skip"
    )
    path = tmp_path / "digits-skip" / local.WEIGHTS_FILE
    assert local.locate(catalog.card("digits-skip")) == path
    loaded = networks.load(catalog.card("digits-skip")).state_dict()
    stored = load_file(path)
    assert all(torch.equal(loaded[key], value.float()) for key, value in stored.items())
    assert loaded.keys() == stored.keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", TINY)
def test_a_lost_embedded_model_can_be_trained_as_the_error_says(name, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "embedded", lambda: tmp_path)
    with pytest.raises(MissingAssetError) as caught:
        local.require(catalog.card(name))
    problem, command, rest = str(caught.value).split("`")
    assert (rest, problem) == (
        "",
        f"the weights of {name} are not here, though they come with skipdit; "
        "install it again, or make them with ",
    )
    program, options = command.split()[:2], command.split()[2:]
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert program == ["skipdit", "train"]
    assert given.pop("--out") == str(tmp_path / name)
    assert given["--model"] == name
    settings = {key.removeprefix("--").replace("-", "_"): given[key] for key in given}
    if "skip_steps" in settings:
        settings["skip_steps"] = int(settings["skip_steps"])
    TrainingSettings(**settings)  # refuses what `train` cannot do


# What is refused


def write(path, *, content=b""):
    path.write_bytes(content)
    return path


def refusal(path, name="digits-skip"):
    """The one line that says why a file is not read."""
    with pytest.raises(UsageError) as caught:
        networks.load(catalog.card(name), path=path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0.5, 0.99, 0.001])
def test_a_truncated_file(image_model, tmp_path, suffix, share):
    path = tmp_path / f"file.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(image_model[0].state_dict(), path)
    whole = path.read_bytes()
    write(path, content=whole[: int(len(whole) * share)])
    said = refusal(path)
    assert said.startswith("is truncated or not a checkpoint (")
    assert said.endswith("; fetch it again")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404: not found</html>", bytes(4096), b"PK\x03\x04", pickle.dumps({"a": 1})],
)
def test_something_else_under_the_name_of_a_checkpoint(tmp_path, suffix, content):
    said = refusal(write(tmp_path / f"file.{suffix}", content=content))
    assert said.startswith("is truncated or not a checkpoint (")


def test_damage_anywhere_in_an_old_file_is_one_line(tmp_path):
    """Byte by byte: some damage the format cannot notice, none ends in another error."""
    path, noticed = tmp_path / "old.pt", []
    old({"a": torch.zeros(2), "b": torch.ones(1)}, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        write(path, content=whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read_state(path)
        except UsageError:
            noticed.append(place)
    assert len(whole) / 2 < len(noticed) < len(whole)


class Bomb:
    """Pickled, it writes a file where it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [torch.save, old, pickled], ids=["zip", "old", "bare pickle"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_file_that_would_run_code_does_not(image_model, tmp_path, save, inside):
    target, path = tmp_path / "ran", tmp_path / "bomb.pt"
    save({"model": {"x": torch.zeros(1)}, "args": Bomb(target)} if inside else Bomb(target), path)
    said = refusal(path)
    assert not target.exists()
    assert said == (
        "holds objects that could run code; only tensors and argparse.Namespace are read"
    )
    if save is torch.save:
        torch.load(path, weights_only=False)  # it would have
        assert target.exists()


def test_no_file(tmp_path):
    assert refusal(tmp_path / "no.pt") == "no such file"
    with pytest.raises(UsageError, match=f"^--weights {tmp_path / 'no.pt'}: no such file"):
        local.fingerprint(catalog.card("digits"), path=tmp_path / "no.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no state dict"),
        ([torch.zeros(1)], "holds no state dict"),
        (torch.zeros(1), "holds no state dict"),
        ({"epoch": 3, "loss": 0.1}, "holds no state dict (epoch, loss)"),
        ({"ema": {}, "model": {"a": 1}}, "holds no state dict"),
        ({0: torch.zeros(1)}, "holds no state dict (0)"),
    ],
)
def test_a_file_without_a_state_dict(tmp_path, content, said):
    torch.save(content, tmp_path / "file.pt")
    rest = "; the file belongs to another model or is incomplete"
    assert refusal(tmp_path / "file.pt") == said + rest


def test_foreign_keys_missing_keys_and_other_shapes_are_told_together(image_model, tmp_path):
    state = dict(image_model[0].state_dict())
    del state["t_embedder.mlp.0.bias"]
    state |= {f"head.{i}": torch.zeros(1) for i in range(4)}
    state["blocks.0.attn.qkv.bias"] = torch.zeros(3)
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    width = 3 * image_model[0].config.hidden_size
    assert refusal(path) == (
        "1 keys missing (t_embedder.mlp.0.bias), 4 keys left over (head.0, head.1, head.2, ...), "
        f"1 shapes differ (blocks.0.attn.qkv.bias is (3,), not ({width},)); "
        "the file belongs to another model or is incomplete"
    )


def test_the_file_of_another_family(image_model, tmp_path):
    path = tmp_path / "file.safetensors"
    save_file(image_model[0].state_dict(), path)
    said = refusal(path, "moving-digits-skip")
    assert "keys missing (" in said
    assert "keys left over (" in said


def test_official_arguments_are_known(image_model):
    with pytest.raises(UsageError, match=r"^dit has no constructor argument depht, heads$"):
        from_official("dit", {"depht": 2, "heads": 1}, image_model[0].state_dict())
    with pytest.raises(UsageError, match="unknown model 'lattte'; did you mean 'latte'"):
        from_official("lattte", {}, {})


SPARSE = "is a sparse, nested, quantized or empty tensor; save plain tensors, "


@pytest.mark.filterwarnings("ignore")  # of torch: what is not finished in it
@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        lambda value: torch.nested.nested_tensor(list(value)),
        lambda value: torch.quantize_per_tensor(value, 1.0, 0, torch.qint8),
        lambda value: value.to("meta"),
    ],
    ids=["sparse", "csr", "nested", "quantized", "meta"],
)
def test_tensors_that_are_not_plain(image_model, tmp_path, change):
    state = dict(image_model[0].state_dict())
    key = "blocks.0.attn.qkv.weight"
    torch.save(state | {key: change(state[key])}, tmp_path / "file.pt")
    assert refusal(tmp_path / "file.pt").startswith(f"{key} {SPARSE}")


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.uint8, torch.bool, torch.complex64],
    ids=lambda dtype: str(dtype)[6:],
)
def test_numbers_that_weights_cannot_be(image_model, tmp_path, dtype):
    state = dict(image_model[0].state_dict())
    state["pos_embed"] = state["pos_embed"].to(dtype)
    torch.save(state, tmp_path / "file.pt")
    said = f"1 are not floating-point numbers (pos_embed is {str(dtype)[6:]}); "
    assert refusal(tmp_path / "file.pt").startswith(said)


def test_a_checkpoint_that_was_packed_again(image_model, tmp_path):
    """Torch maps it as it lies in the file, and would take the packed bytes for weights."""
    torch.save(image_model[0].state_dict(), tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    assert refusal(tmp_path / "packed.pt") == (
        "has compressed parts; write it again with torch.save"
    )


def test_read_state_gives_the_official_keys(image_model, tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"ema": {"a": torch.ones(2), "b": torch.zeros(1, dtype=torch.float16)}}, path)
    state = read_state(path)
    assert {key: value.tolist() for key, value in state.items()} == {"a": [1, 1], "b": [0]}


# Where files live


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert local.home() == tmp_path / "own"
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, place in (("SKIPDIT_HOME", "cache"), ("XDG_CACHE_HOME", ".cache")):
        monkeypatch.setenv(name, "")  # is not the working directory
        assert local.home() == tmp_path / place / "skipdit"
        monkeypatch.delenv(name)
        assert local.home() == tmp_path / place / "skipdit"


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(path, *, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, content=content)


def test_a_downloaded_model_is_found_under_home_and_so_is_its_autoencoder(home):
    assert local.locate(catalog.card("taichi-skip")) is None
    path = put(home / "weights" / "taichi-skip" / local.WEIGHTS_FILE)
    assert local.locate(catalog.card("taichi-skip")) == path
    card = CARDS["taichi-skip"]
    with pytest.raises(MissingAssetError) as caught:
        local.require(catalog.card("taichi-skip"))
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        "the vae of taichi-skip is not here; run `skipdit download taichi-skip "
        "--accept-license` (about 335.0 MB for this part)"
    )
    assert local.absent_components(card) == ["vae"]
    vae = home / "components" / "stabilityai--sd-vae-ft-ema"
    put(vae / "config.json")
    assert local.require(catalog.card("taichi-skip")) == path
    assert local.component(card, "vae") == vae
    assert local.absent_components(card) == []


def test_a_component_lies_in_the_folder_it_has_on_the_hub(home):
    part = CARDS["latte-skip"].components["text_encoder"]
    folder = home / "components" / "maxin-cn--Latte-1" / "text_encoder"
    assert local.component_path(part) is None
    put(folder / "config.json")
    assert local.component_path(part) == folder
    put(folder / local.INCOMPLETE)  # a transfer broke off
    assert local.component_path(part) is None


@pytest.mark.parametrize("name", [name for name in TINY if CARDS[name].text])
def test_the_parts_of_an_embedded_text_model_ship_with_it(name):
    assert local.absent_components(CARDS[name]) == []
    for key in CARDS[name].components:
        folder = local.component(CARDS[name], key)
        file = "tokenizer.json" if key.startswith("tokenizer") else "model.safetensors"
        assert (folder / file).is_file()


def test_a_component_or_its_change_is_part_of_the_fingerprint(home, tmp_path):
    path = write(tmp_path / "a.pt", content=b"abc")
    vae = home / "components" / "stabilityai--sd-vae-ft-ema"
    seen = [local.fingerprint(catalog.card("taichi"), path=path)]  # without it
    put(vae / "config.json", content=b"one")
    seen.append(local.fingerprint(catalog.card("taichi"), path=path))
    assert local.fingerprint(catalog.card("taichi"), path=path) == seen[-1]
    assert local.fingerprint(catalog.card("ffs"), path=path) == seen[-1]  # has the same autoencoder
    put(vae / "config.json", content=b"two")
    seen.append(local.fingerprint(catalog.card("taichi"), path=path))
    put(vae / "model.safetensors", content=bytes(local.SMALL))
    seen.append(local.fingerprint(catalog.card("taichi"), path=path))
    put(vae / "model.safetensors", content=bytes(local.SMALL + 1))
    seen.append(local.fingerprint(catalog.card("taichi"), path=path))
    assert len(set(seen)) == 5
    assert all(len(digits) == 16 and int(digits, 16) for digits in seen)
    put(home / "components" / "stabilityai--sd-vae-ft-mse" / "config.json", content=b"one")
    assert (
        local.fingerprint(catalog.card("dit-xl-2"), path=path) not in seen
    )  # another, if of the same content


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    path = write(tmp_path / "a.pt", content=b"abc")
    sha256 = "ba7816bf8f01cfea"  # of "abc", FIPS 180-2
    assert local.fingerprint(catalog.card("digits"), path=path) == sha256
    write(path, content=b"abd")
    os.utime(path, ns=(1, 1))
    assert local.fingerprint(catalog.card("digits"), path=path) != sha256


@pytest.fixture
def large(home, tmp_path, monkeypatch):
    """A file that is large enough to have its hash remembered, and how often files are hashed."""
    path, digest, hashed = tmp_path / "large.pt", hashlib.file_digest, []
    path.write_bytes(bytes(1000))
    monkeypatch.setattr(local, "LARGE", 1000)
    monkeypatch.setattr(local, "YOUNG", -1)  # as if it had been there for a while
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(1) or digest(*given))
    return path, hashed


def true_digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_are_hashed_once(large, home):
    path, hashed = large
    assert local.remembered_sha256(path) == local.remembered_sha256(path) == true_digest(path)
    assert len(hashed) == 1
    (record,) = (home / "hashes").iterdir()
    record.write_text(record.read_text().replace(true_digest(path), "0" * 64))
    with pytest.warns(SkipditWarning, match="was changed or damaged .* it counts as absent"):
        assert local.remembered_sha256(path) == true_digest(path)
    assert len(hashed) == 2


@pytest.mark.parametrize("how", ["written in place", "put in its place", "larger"])
def test_weights_that_changed_are_hashed_again(large, how):
    """Whoever writes the times of a file back does not write back when that was."""
    path, hashed = large
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    before = local.remembered_sha256(path)
    content = b"1" * (1001 if how == "larger" else 1000)
    if how == "put in its place":
        (path.parent / "other").write_bytes(content)
        os.replace(path.parent / "other", path)
    else:
        path.write_bytes(content)
    os.utime(path, ns=times)
    assert local.remembered_sha256(path) == true_digest(path) != before
    assert len(hashed) == 2


def test_the_hash_of_weights_that_have_just_changed_is_not_remembered(large, home, monkeypatch):
    path, hashed = large
    monkeypatch.setattr(local, "YOUNG", 2 * 10**9)
    seen = local._seen(path)
    monkeypatch.setattr(local, "_seen", lambda path: seen)  # as if the clock of the disk stood
    for content in (bytes(1000), b"1" * 1000):
        path.write_bytes(content)
        assert local.remembered_sha256(path) == true_digest(path)
    assert len(hashed) == 2
    assert not (home / "hashes").exists()
    assert 0 < local.YOUNG < 10**10


def test_a_home_that_cannot_be_written_remembers_nothing(large, home, monkeypatch):
    path, hashed = large
    home.mkdir(parents=True, exist_ok=True)
    (home / "hashes").write_text("")
    assert local.remembered_sha256(path) == local.remembered_sha256(path) == true_digest(path)
    assert len(hashed) == 2


def test_a_command_remembers_the_hash_of_its_weights(large, home):
    path, hashed = large
    assert local.fingerprint(catalog.card("digits"), path=path) == true_digest(path)[:16]
    assert local.fingerprint(catalog.card("digits"), path=path) == true_digest(path)[:16]
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ucf101-skip", "2.77 GB, and 335.0 MB of vae"),
        ("taichi", "2.70 GB, and 335.0 MB of vae"),
        ("dit-xl-2-skip", "11.40 GB, and 335.0 MB of vae"),
        ("latte-skip", "8.76 GB, and 19.44 GB of vae, tokenizer, text_encoder"),
        (
            "hunyuan-dit",
            "6.00 GB, and 8.42 GB of vae, tokenizer, text_encoder, tokenizer_2, text_encoder_2",
        ),
    ],
)
def test_missing_weights_name_command_and_size(home, name, size):
    with pytest.raises(MissingAssetError) as caught:
        networks.load(catalog.card(name))
    assert caught.value.exit_code == 4
    accept = "" if name == "taichi" else " --accept-license"  # the download would ask for it
    assert str(caught.value).startswith(
        f"the weights of {name} are not here; run `skipdit download {name}{accept}` (about {size})"
    )


def test_components_that_are_here_already_are_not_counted(home):
    put(home / "components" / "maxin-cn--Latte-1" / "text_encoder" / "config.json")
    with pytest.raises(
        MissingAssetError, match=r"\(about 4\.23 GB, and 391\.8 MB of vae, tokenizer\)"
    ):
        local.require(catalog.card("latte"))
    put(home / "components" / "stabilityai--sd-vae-ft-ema" / "config.json")
    with pytest.raises(MissingAssetError, match=r"taichi` \(about 2\.70 GB\), or give a file"):
        local.require(catalog.card("taichi"))


def test_unknown_checkpoints_name_the_nearest():
    with pytest.raises(UsageError) as caught:
        catalog.card("ucf-101-skip", place="--model")
    assert str(caught.value) == (
        "--model: unknown model 'ucf-101-skip'; did you mean 'ucf101-skip'?"
    )


@pytest.mark.parametrize(("size", "text"), [(2_770_000_000, "2.77 GB"), (999_000, "1.0 MB")])
def test_sizes(size, text):
    assert local.size_text(size) == text


@pytest.mark.parametrize("name", CARDS)
def test_a_card_describes_a_model_that_can_be_built(name):
    card = CARDS[name]
    assert card.name == name
    model = networks.build(card)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert bool(model.layout().skips) is card.skip is (name.endswith("-skip") or card.native_skip)
    assert model.layout().family == card.family
    assert model.config.get("num_classes") == card.num_classes
    assert card.sampling.sampler in registry.names("samplers")
    assert card.sampling.guidance is None or card.num_classes or card.text
    assert (card.num_classes is None) or not card.text
    stand_in = CARDS[card.tiny]
    assert stand_in.embedded
    assert (stand_in.task, stand_in.skip) == (card.task, card.skip)
    how = [replace(c.sampling, sampler="", steps="", guidance=None) for c in (card, stand_in)]
    assert how[0] == how[1]  # trained on the same schedule, to predict the same
    assert card.embedded or (card.files and card.size > 1e9)
    texts = {key for key in card.components if key != "vae"}
    assert bool(texts) is bool(card.prompts) is card.text
    assert texts == set(stand_in.components)
    assert texts <= {"tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"}
    assert ("vae" in card.components) is not card.embedded
    assert all(part.size > 0 for part in card.components.values()) or card.embedded
    assert not card.prompts or card.prompts in prompts.names()


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CARDS)
def test_a_model_takes_the_inputs_it_names_and_leaves_the_rest_of_its_channels(name):
    """On the meta device: shapes alone. The sample's channels come first, then the variance."""
    model = networks.build(CARDS[name])
    inputs = model.inputs(2, device="meta")
    out = model(**inputs).sample
    dim, given = model.CHANNEL_DIM, inputs["hidden_states"]
    assert out.shape[dim] == 2 * given.shape[dim]
    assert out.narrow(dim, 0, given.shape[dim]).shape == given.shape
    assert all(len(value) == 2 for value in inputs.values())


@pytest.mark.parametrize("name", TINY)
def test_a_converted_file_is_read_like_an_official_one(name, tmp_path):
    """`--weights` may be either: what has our keys already stays as it is."""
    model, inputs = drawn(name)
    save_file(model.state_dict(), tmp_path / "file.safetensors")
    loaded = networks.load(catalog.card(name), path=tmp_path / "file.safetensors")
    assert same(model, loaded)
    assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)
