"""Latents of one's own data: what is in them, resumed bit for bit, and each mistake."""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import replace

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.checkpoints.card import Component
from skipdit_cli.errors import MissingAssetError, SkipditWarning, StoreError, UsageError
from skipdit_cli.generate import text
from skipdit_cli.train import encoding, frames, latents, shards
from skipdit_cli.train.frames import preparation
from skipdit_cli.train.latents import awaited, encode, opened

DIGITS, MOVING = catalog.card("digits"), catalog.card("moving-digits")
PAINTED, CAPTIONED = catalog.card("painted-digits"), catalog.card("captioned-digits")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*"))}


@pytest.fixture
def few_in_a_shard(monkeypatch):
    """Two digits, with and without their mirror images, are in a shard."""
    monkeypatch.setattr(encoding, "SHARD_BYTES", 4 * 16 * 16)


@pytest.fixture
def with_vae(tmp_path, monkeypatch):
    """with_vae(scale): a model of digits in RGB behind a small autoencoder, by name its card."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))

    def make(name, card=DIGITS):
        torch.manual_seed(len(name))
        diffusers.AutoencoderKL(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            layers_per_block=1,
            scaling_factor=0.7,
        ).save_pretrained(tmp_path / "home" / "components" / name)
        size = {"in_channels": 4, "input_size": 4, "patch_size": 2}
        parts = {"vae": Component(name)}
        arguments = {**card.arguments, **size}
        return replace(card, name=f"{card.name}-{name}", components=parts, arguments=arguments)

    return make


def test_pixels_and_classes_come_back(images, tmp_path, few_in_a_shard):
    data, how = images(one=3, two=2), preparation(DIGITS)
    made = encode(DIGITS, data, tmp_path / "out", flips=False)
    assert (len(made), made.classes, made.captions, made.bad) == (5, ("one", "two"), (), {})
    paths = sorted(data.rglob("*.png"))
    x0, labels = made.batch(range(5), generator())
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert (labels.dtype, x0.dtype, x0.shape) == (torch.int64, torch.float32, (5, 1, 16, 16))
    expected = torch.cat([how.read(path, 0) for path in paths]) / 127.5 - 1
    assert torch.equal(x0, expected)
    some, labels = made.batch([4, 0, 4], generator())
    assert torch.equal(some, expected[[4, 0, 4]])
    assert labels.tolist() == [1, 0, 1]
    assert [shard.items for shard in made.index.shards] == [4, 1]
    for item in (5, -1):
        with pytest.raises(IndexError):
            made.batch([item], generator())


def test_a_mirror_image_is_drawn_as_often_as_the_image(images, tmp_path):
    made = encode(DIGITS, images(one=1, two=1), tmp_path / "out")
    x0, _ = made.batch([0] * 200, generator(3))
    mirrored = [torch.equal(x, x0[0].flip(-1)) for x in x0]
    assert all(torch.equal(x, x0[0]) or torch.equal(x, x0[0].flip(-1)) for x in x0)
    assert 70 < sum(mirrored) < 130
    again = opened(tmp_path / "out", DIGITS).batch([0] * 200, generator(3))[0]
    assert torch.equal(x0, again)
    assert not torch.equal(x0, made.batch([0] * 200, generator(4))[0])


@pytest.mark.parametrize("model", [MOVING, CAPTIONED], ids=["frames first", "channels first"])
def test_clips_have_the_layout_of_the_model(clips, tmp_path, model):
    data = clips({"one/a.mkv": 40, "two/b.mkv": 9})
    table = data / "captions.csv"
    table.write_text("path,caption\none/a.mkv,a one\ntwo/b.mkv,a two\n")
    given = {"interval": 2, "crops": 3, "seed": 5, "flips": False}
    source = table if model.text else data
    made = encode(model, source, tmp_path / "out", **given)
    how = preparation(model, interval=2, crops=3, seed=5)
    x0, labels = made.batch([0] * 40 + [1], generator())
    assert x0.shape[1:] == networks.meta(model).inputs(1)["hidden_states"].shape[1:]
    assert labels.tolist() == [0] * 40 + [1]
    crops = how.read(data / "one/a.mkv", 0).round() / 127.5 - 1
    if model.text:
        crops = crops.transpose(1, 2)
    which = [next(i for i, crop in enumerate(crops) if torch.equal(x, crop)) for x in x0[:40]]
    assert {*which} == {0, 1, 2}


def test_captions_are_encoded_once_and_numbered(images, tmp_path, monkeypatch):
    data = images(a=3)
    rows = ["a/0.png,a one", "a/1.png,the digit two", "a/2.png,a one"]
    (data / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    made = encode(PAINTED, data, tmp_path / "out")
    assert made.captions == ("a one", "the digit two")
    assert made.classes == ()
    assert made.batch([0, 1, 2], generator())[1].tolist() == [0, 1, 0]
    assert made.index.asked.flips is False  # as officially: "to the left" would be wrong
    halves = text.conditions(PAINTED, made.captions, root=tmp_path / "out", precision="float32")
    assert {len(value) for half in halves for value in half.values()} == {2}
    next((tmp_path / "out" / "embeddings").rglob("*.safetensors")).unlink()
    with pytest.raises(MissingAssetError, match="1 embeddings of captions by the text encoders of"):
        opened(tmp_path / "out", PAINTED)
    monkeypatch.setattr(encoding.Encoding, "shard", None)  # those are there
    assert encode(PAINTED, data, tmp_path / "out").identity == made.identity


def test_latents_are_drawn_from_the_posterior(images, tmp_path, with_vae, monkeypatch):
    chosen = with_vae("vae")
    data = images(one=2, two=1)
    made = encode(chosen, data, tmp_path / "out", batch_size=2, precision="float32")
    (shard,) = (load_file(tmp_path / "out" / each.file) for each in made.index.shards)
    assert shard["mean"].shape == shard["std"].shape == (6, 4, 4, 4)
    assert {shard["mean"].dtype, shard["std"].dtype} == {torch.float16}
    vae = diffusers.AutoencoderKL.from_pretrained(local.component(chosen, "vae")).eval()
    how = preparation(chosen)
    assert (how.side, how.channels) == (32, 3)
    pixels = torch.cat([how.read(path, 0) for path in sorted(data.rglob("*.png"))]) / 127.5 - 1
    both = torch.stack([pixels, pixels.flip(-1)], dim=1)  # an image, then its mirror image
    with torch.no_grad():
        for some in (slice(0, 2), slice(2, 3)):  # as they were encoded
            own = vae.encode(both[some].flatten(0, 1)).latent_dist
            rows = slice(2 * some.start, 2 * some.stop)
            assert torch.equal(shard["mean"][rows], (own.mean * 0.7).half())
            assert torch.equal(shard["std"][rows], (own.std * 0.7).half())
    x0, _ = made.batch([1] * 300, generator())
    drawn = generator()
    entries = 2 + torch.randint(2, (300,), generator=drawn)
    mean, std = shard["mean"][entries].float(), shard["std"][entries].float()
    assert torch.equal(x0, mean + std * torch.randn(x0.shape, generator=drawn))


def test_clips_go_through_the_autoencoder_frame_by_frame(clips, tmp_path, with_vae):
    chosen = with_vae("vae", MOVING)
    data = clips({"one/a.mkv": 8, "two/b.mkv": 8})
    made = encode(chosen, data, tmp_path / "out", interval=1, flips=False)
    vae = diffusers.AutoencoderKL.from_pretrained(local.component(chosen, "vae")).eval()
    shard = load_file(tmp_path / "out" / made.index.shards[0].file)
    assert shard["mean"].shape == (2, 8, 4, 4, 4)
    pixels = preparation(chosen, interval=1).read(data / "two/b.mkv", 1)[0] / 127.5 - 1
    with torch.no_grad():
        own = vae.encode(pixels).latent_dist.mean * 0.7
    assert torch.allclose(shard["mean"][1].float(), own, atol=1e-3)


@pytest.mark.parametrize("reads", [1, 3, 6, 9])
def test_a_killed_call_goes_on(images, tmp_path, few_in_a_shard, monkeypatch, reads):
    """The shards are those of a call that nobody disturbed."""
    data = images(one=5, two=5)
    whole = encode(DIGITS, data, tmp_path / "whole")
    read, seen = frames.Preparation.read, []

    def stopping(self, path, index):
        seen.append(index)
        if len(seen) == reads:
            raise KeyboardInterrupt
        return read(self, path, index)

    monkeypatch.setattr(frames.Preparation, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        encode(DIGITS, data, tmp_path / "out")
    with pytest.raises(UsageError, match="is not finished; encode the data again"):
        opened(tmp_path / "out", DIGITS)
    made = encode(DIGITS, data, tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert seen[reads:] == list(range((reads - 1) // 2 * 2, 10))
    assert made.identity == whole.identity


def test_a_finished_folder_is_not_made_again(images, tmp_path, monkeypatch):
    data = images(one=2, two=2)
    made = encode(DIGITS, data, tmp_path / "out")
    monkeypatch.setattr(encoding.Encoding, "shard", None)
    assert encode(DIGITS, data, tmp_path / "out").identity == made.identity
    moved = shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    assert opened(moved, DIGITS).identity == made.identity


def test_a_damaged_shard_is_told_of_and_made_again(images, tmp_path, few_in_a_shard):
    data = images(one=3, two=3)
    made = encode(DIGITS, data, tmp_path / "out")
    before = files(tmp_path / "out")
    path = tmp_path / "out" / shards.name(1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors: was changed or damaged"):
        opened(tmp_path / "out", DIGITS)
    path.unlink()
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors: is not there"):
        opened(tmp_path / "out", DIGITS)
    with pytest.warns(SkipditWarning, match=r"is not there; it counts as absent"):
        again = encode(DIGITS, data, tmp_path / "out")
    assert again.identity == made.identity
    assert files(tmp_path / "out") == before


def test_what_another_process_makes_is_waited_for(images, tmp_path, few_in_a_shard, monkeypatch):
    """That it has begun is not enough."""
    data, place, told = images(one=3, two=2), tmp_path / "out", []
    shard = encoding.Encoding.shard

    def killed(self, places, known, progress):
        if places[0]:
            raise KeyboardInterrupt
        return shard(self, places, known, progress)

    def go_on(seconds):
        with monkeypatch.context() as patch:
            if not place.exists():
                patch.setattr(encoding.Encoding, "shard", killed)
            with suppress(KeyboardInterrupt):
                encode(DIGITS, data, place)
        rounds.append(shards.read(place).shards)

    rounds = []
    monkeypatch.setattr(latents.time, "sleep", go_on)
    found = awaited(place, DIGITS, tell=lambda: told.append(len(rounds)))
    assert [len(each) for each in rounds] == [0, 3]
    assert told == [0]
    assert found.identity == opened(place, DIGITS).identity
    awaited(place, DIGITS, tell=lambda: told.append(None))  # it is there
    assert told == [0]


def test_bad_files_are_counted_and_left_out(images, tmp_path, few_in_a_shard):
    data = images(one=4, two=2)
    (data / "one" / "1.png").write_bytes(b"no image")
    (data / "two" / "0.png").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        encode(DIGITS, data, tmp_path / "out")
    assert str(caught.value).startswith(f"{data}/one/1.png: cannot be read as an image (")
    assert str(caught.value).endswith(
        ": bad file 1, and 0 may be left out; take it out of the data, or give --max-bad 1 or more"
    )
    with (
        pytest.warns(SkipditWarning, match=r"1\.png: cannot be read .*; it is left out"),
        pytest.raises(UsageError, match="bad file 2, and 1 may be left out"),
    ):
        encode(DIGITS, data, tmp_path / "out", max_bad=1)
    with pytest.warns(SkipditWarning, match=r"two/0\.png"):  # the shard before is kept
        made = encode(DIGITS, data, tmp_path / "out", max_bad=2)
    assert len(made) == 4
    assert [shard.items for shard in made.index.shards] == [1, 2, 1]
    assert [*made.bad] == [f"{data}/one/1.png", f"{data}/two/0.png"]
    assert made.bad[f"{data}/one/1.png"].startswith("cannot be read as an image")
    x0, labels = made.batch(range(4), generator())
    assert labels.tolist() == [0, 0, 0, 1]
    expected = preparation(DIGITS).read(data / "two" / "1.png", 0)[0] / 127.5 - 1
    assert torch.equal(x0[3], expected) or torch.equal(x0[3], expected.flip(-1))


def test_clips_that_are_too_short_are_bad(clips, tmp_path):
    data = clips({"one/a.mkv": 8, "two/b.mkv": 7})
    with pytest.warns(SkipditWarning, match=r"b\.mkv: has 7 frames, and the model takes 8"):
        assert len(encode(MOVING, data, tmp_path / "out", max_bad=1)) == 1


def test_a_shard_of_bad_files_alone(images, tmp_path, few_in_a_shard):
    data = images(one=5, two=1)
    for i in (0, 1):
        (data / "one" / f"{i}.png").write_bytes(b"no image")
    with pytest.warns(SkipditWarning):
        made = encode(DIGITS, data, tmp_path / "out", max_bad=2)
    assert [shard.items for shard in made.index.shards] == [0, 2, 2]
    assert made.batch(range(4), generator())[1].tolist() == [0, 0, 0, 1]


def test_nothing_but_bad_files(images, tmp_path):
    data = images(one=1, two=1)
    for path in data.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.warns(SkipditWarning), pytest.raises(UsageError, match="nothing in it can be read"):
        encode(DIGITS, data, tmp_path / "out", max_bad=9)


def test_other_arguments_and_other_data_are_told(images, tmp_path):
    data, out = images(one=2, two=2), tmp_path / "out"
    encode(DIGITS, data, out)
    with pytest.raises(UsageError) as caught:
        encode(DIGITS, data, out, flips=False)
    assert str(caught.value) == (
        f"{out}: holds latents of flips True, not of flips False; "
        "give the same arguments, or another --out"
    )
    with pytest.raises(UsageError, match="latents of seed 0, not of seed 1"):
        encode(DIGITS, data, out, seed=1)
    Image.new("L", (20, 20)).save(data / "one" / "1.png")
    with pytest.raises(UsageError, match=f"of {data}, whose files are others or have changed"):
        encode(DIGITS, data, out)
    free = replace(DIGITS, name="other", arguments={"num_classes": 10, "input_size": 20})
    with pytest.raises(UsageError, match="latents of shape 1x16x16, not of shape 1x20x20"):
        encode(free, data, out)


def test_latents_of_others_are_refused(images, tmp_path, with_vae):
    data, one, two = images(one=2, two=2), with_vae("vae"), with_vae("other-vae")
    made = encode(one, data, tmp_path / "out")
    assert opened(tmp_path / "out", replace(one, name="skips", skip=True)).identity == made.identity
    with pytest.raises(UsageError) as caught:
        opened(tmp_path / "out", two)
    assert str(caught.value) == (
        f"{tmp_path}/out: holds latents of another autoencoder, for digits-vae; make those of "
        "digits-other-vae with `skipdit latents --model digits-other-vae --data FOLDER`"
    )
    with pytest.raises(UsageError, match="of 4x4x4 for digits-vae, and digits takes 1x16x16"):
        opened(tmp_path / "out", DIGITS)
    with pytest.raises(UsageError, match="holds no latents; make them with `skipdit latents --mod"):
        opened(tmp_path, DIGITS)
    free = replace(DIGITS, task="t2i")
    encode(DIGITS, data, tmp_path / "digits")
    with pytest.raises(UsageError, match="without captions, and digits takes them"):
        opened(tmp_path / "digits", free)


def test_identity_is_of_the_content(images, tmp_path):
    data = images(one=2, two=2)
    made = encode(DIGITS, data, tmp_path / "a")
    assert encode(DIGITS, data, tmp_path / "b", batch_size=1).identity == made.identity
    assert encode(DIGITS, data, tmp_path / "c", flips=False).identity != made.identity
    (data / "two").rename(data / "three")
    assert encode(DIGITS, data, tmp_path / "d").identity != made.identity


def test_the_index_tells_what_was_made(images, tmp_path):
    made = encode(DIGITS, images(one=2, two=2), tmp_path / "out", seed=3)
    content = json.loads((tmp_path / "out" / "latents.json").read_text())
    assert (content["model"], content["classes"]) == ("digits", ["one", "two"])
    assert content["source"] == str(tmp_path / "data")
    assert content["asked"]["seed"] == 3
    (shard,) = content["shards"]
    data = (tmp_path / "out" / made.index.shards[0].file).read_bytes()
    assert (shard["size"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    content["model"] = "other"
    (tmp_path / "out" / "latents.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"latents\.json: is not a readable index of latents"):
        opened(tmp_path / "out", DIGITS)


def test_an_autoencoder_that_is_not_there(images, tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "none"))
    with pytest.raises(MissingAssetError, match="the vae of dit-xl-2 is not here"):
        encode(catalog.card("dit-xl-2"), images(one=1, two=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_counts_files(images, tmp_path, few_in_a_shard):
    told = []
    encode(DIGITS, images(one=3, two=2), tmp_path / "out", progress=lambda *at: told.append(at))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_batches_read_no_more_than_their_rows(images, tmp_path):
    made = encode(DIGITS, images(one=2, two=2), tmp_path / "out")
    x0, _ = made.batch([2, 0], generator())
    file, labels = made._files[0]
    asked = []

    class Rows:
        """A shard of which nothing but slices can be had."""

        def get_slice(self, name):
            whole = file.get_slice(name)
            return type("Slice", (), {"__getitem__": lambda _, at: asked.append(at) or whole[at]})()

    made._files[0] = Rows(), labels
    assert torch.equal(made.batch([2, 0], generator())[0], x0)
    assert [at.stop - at.start for at in asked] == [1, 1]
