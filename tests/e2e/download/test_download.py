"""`skipdit download` against a server on this machine, whose small files are named as the hub's."""

import hashlib
import io
import json
import os
import pickle
import re
import zipfile
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from safetensors.torch import load_file, save_file

from skipdit_cli import registry
from skipdit_cli.assets import assets, coco, lists
from skipdit_cli.checkpoints import _fetch, catalog, local
from skipdit_cli.score import real_clips

NAME = "skytimelapse-skip"


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def converted(home):
    return home / "weights" / NAME / local.WEIGHTS_FILE


def test_everything_is_fetched_and_converted_and_a_second_time_nothing_is_asked(
    hub, get, home, trained
):
    done = get()
    assert (done.code, done.out) == (0, f"{NAME} {converted(home)}\n"), done
    assert "licence CC-BY-NC-4.0" in done.err
    config = converted(home).with_name("config.json")
    assert converted(home).stat().st_mode == config.stat().st_mode  # others may read both
    taken = load_file(converted(home))
    assert torch.equal(taken["pos_embed"], trained[1]["pos_embed"])  # the average, not the model
    model = registry.load("models", "dit").MODEL.from_pretrained(converted(home).parent)
    last = model.blocks[-1].skip.linear.weight
    assert torch.equal(last, trained[1][f"skip_linears.{len(model.blocks) // 2 - 1}.linear.weight"])
    parts = home / "components"
    vae = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert names(parts / "someone--vae") == vae
    assert names(parts / "someone--text" / "tokenizer") == ["spiece.model", "tokenizer_config.json"]
    encoder = [path.split("/")[1] for path in hub.SHARDS]
    whole = ["config.json", *encoder, "model.safetensors.index.json"]
    assert names(parts / "someone--text" / "text_encoder") == whole
    card = catalog.card(NAME)
    assert all(local.component_path(part) for part in card.components.values())
    hub.forget()
    again = get()
    assert (again.code, again.out, hub.requests) == (0, done.out, [])


def test_repositories_are_listed_first_and_once(hub, get):
    get()
    listings = [path for path in hub.paths if path.startswith("/api/")]
    assert listings == [f"/api/models/someone/{name}" for name in ("skip", "vae", "text")]
    assert hub.paths[:3] == listings
    assert all(
        hub.COMMIT in path for path in hub.paths[3:]
    )  # what was listed, whatever comes later


def test_originals_are_kept_until_they_are_to_be_deleted(hub, get, home, trained):
    kept = home / "downloads" / NAME / "skylapse-skip.pt"
    assert f"kept {kept}" in get().err
    assert kept.read_bytes() == trained[0]
    hub.forget()
    assert get("--delete-originals").code == 0
    assert (kept.exists(), converted(home).is_file(), hub.requests) == (False, True, [])


def test_an_original_is_deleted_after_its_conversion(hub, get, home):
    done = get("--delete-originals")
    assert (done.code, "kept" in done.err) == (0, False)
    assert names(home / "downloads") == []
    assert converted(home).is_file()


def test_a_dry_run_fetches_nothing(hub, skipdit, home, table, trained):
    done = skipdit("download", NAME, "--dry-run")
    assert done.code == 0, done
    rows = {row["file"]: row for row in table(done.out)}
    official = rows["someone/skip/skylapse-skip.pt"]
    assert official["sha256"] == hashlib.sha256(trained[0]).hexdigest()[:12]
    assert official["size"] == local.size_text(len(trained[0]))
    assert official["licence"] == "CC-BY-NC-4.0"
    assert (official["target"], official["state"]) == (
        f"downloads/{NAME}/skylapse-skip.pt",
        "fetch",
    )
    assert rows["someone/vae/config.json"]["licence"] == "mit"
    assert rows["someone/vae/config.json"]["target"] == "components/someone--vae/config.json"
    assert len(rows) == 9  # the model's file, 2 of the VAE, 2 of the tokenizer, 4 of the encoder
    assert "to fetch: " in done.out
    assert {path.split("/")[1] for path in hub.paths} == {"api"}
    assert not home.exists()


def test_a_dry_run_says_what_is_here(hub, get, table):
    get()
    hub.forget()
    rows = table(get("--dry-run").out)
    assert [(row["part"], row["state"]) for row in rows] == [
        (part, "here") for part in ("denoiser", "vae", "tokenizer", "text_encoder")
    ]
    assert hub.requests == []


def test_an_interrupted_transfer_goes_on_where_it_stopped(hub, get, home, trained, table, failed):
    hub.cut = 40_500
    official = f"/cdn/someone/skip/resolve/{hub.COMMIT}/skylapse-skip.pt"
    size = len(trained[0])
    failed(
        get(), 4, f"skylapse-skip.pt broke off after 40000 of {size} bytes", "goes on from there"
    )
    assert not converted(home).exists()
    hub.cut = None
    hub.forget()
    assert "resume" in {row["state"] for row in table(get("--dry-run").out)}
    assert get().code == 0
    assert hub.sent[official] == size - 40_000
    ranges = [wanted for _, path, wanted, _ in hub.requests if path == official]
    assert ranges == ["bytes=40000-"]
    assert (home / "downloads" / NAME / "skylapse-skip.pt").read_bytes() == trained[0]


def test_what_came_of_another_version_is_not_completed(hub, get, home, trained):
    hub.cut = 40_500
    get()
    other = trained[0] + b"more"  # a zip file may have a tail
    hub.repositories["someone/skip"]["skylapse-skip.pt"] = other
    hub.cut = None
    hub.forget()
    get()
    assert hub.sent[f"/cdn/someone/skip/resolve/{hub.COMMIT}/skylapse-skip.pt"] == len(other)
    assert names(home / "downloads" / NAME) == ["skylapse-skip.pt"]


@pytest.mark.parametrize(
    ("path", "damage", "told"),
    [
        ("skylapse-skip.pt", lambda content: b"?" + content[1:], "its sha256 is "),
        ("skylapse-skip.pt", lambda content: content[:-7], "bytes, not "),
        ("skylapse-skip.pt", lambda content: content + b"more", "bytes, not "),
        ("config.json", lambda content: b"[]", "its git hash is "),
    ],
    ids=["hash", "too short", "too long", "a small file"],
)
def test_what_is_not_as_listed_is_deleted(hub, get, home, path, damage, told, failed):
    repository = "someone/skip" if path.endswith(".pt") else "someone/vae"
    hub.lies[path] = damage(hub.repositories[repository][path])
    failed(get(), 4, f"{repository}/{path} is damaged", told, "it was deleted")
    left = [*names(home / "downloads"), *names(home / "components")]
    assert not [name for name in left if path in name]
    assert local.component_path(catalog.card(NAME).components["vae"]) is None
    hub.lies.clear()
    assert get().code == 0


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(hub, get, home, tmp_path, protocol, failed, saved):
    content = {"ema": {"a": torch.zeros(1)}, "args": Evil(tmp_path / "marker")}
    evil = saved(content) if protocol == "torch" else pickle.dumps(content)
    hub.repositories["someone/skip"]["skylapse-skip.pt"] = evil
    failed(get(), 2, "skylapse-skip.pt: ")
    assert not (tmp_path / "marker").exists()
    assert not converted(home).exists()


def test_a_truncated_pickle_is_refused(hub, get, home, trained, failed):
    hub.repositories["someone/skip"]["skylapse-skip.pt"] = trained[0][:5000]
    failed(get(), 2, "skylapse-skip.pt: is truncated or not a checkpoint")
    assert not (home / "weights").exists()


def test_missing_and_extra_keys_are_named(hub, get, home, trained, failed, saved):
    ema = {key: value for key, value in trained[1].items() if not key.startswith("pos_embed")}
    ema |= {f"strange.{i}": torch.zeros(2) for i in range(9)}
    hub.repositories["someone/skip"]["skylapse-skip.pt"] = saved({"ema": ema})
    report = home / "downloads" / NAME / "keys.txt"
    failed(get(), 2, "1 keys missing (pos_embed)", "9 keys left over (strange.0", str(report))
    lines = report.read_text().splitlines()
    assert lines[0].startswith("missing pos_embed (")
    assert lines[1:] == [f"left over strange.{i} (2,)" for i in range(9)]
    assert not (home / "weights").exists()
    hub.repositories["someone/skip"]["skylapse-skip.pt"] = trained[0]
    assert get().code == 0
    assert not report.exists()


def test_a_repository_without_the_file_is_told_with_the_names_it_has(hub, get, failed):
    files = hub.repositories["someone/skip"]
    files["sky-timelapse-skip.pt"] = files.pop("skylapse-skip.pt")
    told = "someone/skip has no skytimelapse-skip.pt or skylapse-skip.pt, but sky-timelapse-skip.pt"
    failed(get(), 4, told, "--from FILE")


def test_a_repository_that_is_not_there(hub, get, home, failed):
    del hub.repositories["someone/vae"]
    failed(get(), 4, "someone/vae", "no such repository")
    assert not (home / "downloads").exists()  # known before anything is fetched


def test_a_missing_shard_is_known_before_anything_is_fetched(hub, get, home, failed):
    del hub.repositories["someone/text"][hub.SHARDS[1]]
    failed(get(), 4, "someone/text, text_encoder: 1 of 2 shards")
    assert not home.exists()


def test_too_little_space_is_known_before_anything_is_fetched(hub, get, home, monkeypatch, failed):
    usage = type("Usage", (), {"free": 3_000_000})
    monkeypatch.setattr("skipdit_cli.checkpoints.download.shutil.disk_usage", lambda path: usage)
    done = get()
    failed(done, 1, "needs ", "3.0 MB (3000000 bytes) are free", "SKIPDIT_HOME")
    needed = int(re.search(r"needs .*? \((\d+) bytes\)", done.err)[1])
    files = hub.repositories["someone/skip"]["skylapse-skip.pt"]
    assert needed > len(files) + 4 * 600_000  # the transfer and the converted copy
    assert hub.sent == {}


def test_a_disk_that_fills_up_ends_the_transfer_and_keeps_what_came(
    hub, get, monkeypatch, trained, failed
):
    write = _fetch._Watched.write

    def full(self, data):
        if self.tell() >= 20_000:
            raise OSError(28, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(_fetch._Watched, "write", full)
        failed(get(), 1, "no space left on device", "free some space")
    hub.forget()
    assert get().code == 0
    sent = hub.sent[f"/cdn/someone/skip/resolve/{hub.COMMIT}/skylapse-skip.pt"]
    assert sent == len(trained[0]) - 20_000


def test_a_licence_is_refused_before_anything_is_asked(hub, skipdit, failed):
    failed(skipdit("download", NAME), 2, "CC-BY-NC-4.0, for non-commercial", "--accept-license")
    assert hub.requests == []


def test_offline_nothing_is_asked(hub, get, monkeypatch, failed):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    failed(get(), 4, "cannot fetch someone/skip: HF_HUB_OFFLINE is set", "--from FILE")
    assert hub.requests == []


def test_no_network_is_told(hub, get, monkeypatch, failed):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    failed(get(), 4, "cannot fetch someone/skip (", "check the network and HF_ENDPOINT")


def test_offline_the_cache_of_huggingface_hub_is_taken(hub, get, home, monkeypatch):
    cached = {}
    for repository, files in hub.repositories.items():
        for path in files:
            if not path.endswith(hub.DECOYS):
                cached[path] = hf_hub_download(repository, path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.forget()
    done = get("--delete-originals")
    assert (done.code, hub.requests) == (0, []), done
    assert "taking what is in the cache of huggingface_hub" in done.err
    assert converted(home).is_file()
    encoder = home / "components" / "someone--text" / "text_encoder"
    assert os.path.samefile(
        encoder / hub.SHARDS[0].split("/")[1], cached[hub.SHARDS[0]]
    )  # no second copy
    assert os.path.isfile(cached["skylapse-skip.pt"])  # not ours to delete


def test_a_damaged_file_of_the_cache_is_not_taken(hub, get, home, trained):
    path = hf_hub_download("someone/skip", "skylapse-skip.pt", revision=hub.COMMIT)
    with open(path, "r+b") as file:
        file.write(b"?")
    hub.forget()
    assert get().code == 0
    assert hub.sent[f"/cdn/someone/skip/resolve/{hub.COMMIT}/skylapse-skip.pt"] == len(trained[0])


def test_a_damaged_part_is_fetched_again_alone(hub, get, home):
    get()
    file = home / "components" / "someone--vae" / "diffusion_pytorch_model.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-4])
    hub.forget()
    assert get().code == 0
    assert file.read_bytes() == sound
    assert [path.split("/")[-1] for path in hub.sent] == [file.name]


def test_two_downloads_at_once_are_refused(hub, get, home, failed):
    from filelock import FileLock

    home.mkdir()
    with FileLock(home / "downloads.lock"):
        failed(get(), 1, "another download is running")
    assert hub.sent == {}


@pytest.fixture
def address(hub, put_card, trained):
    """The card's file at a plain address instead of in a repository."""
    hub.addresses["/models/DiT.pt"] = trained[0]
    source = f"{hub.url}/models/"
    card = replace(catalog.card(NAME), source=source, files=("DiT.pt",), components={})
    put_card(card)
    return "/models/DiT.pt"


def test_a_plain_address_is_resumed_and_sees_no_token(
    hub, get, address, monkeypatch, trained, failed
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.cut = 40_500
    failed(get(), 4, "DiT.pt broke off after 40000 of")
    hub.cut = None
    hub.forget()
    assert get().code == 0
    assert hub.sent[address] == len(trained[0]) - 40_000
    assert {token for *_, token in hub.requests} == {None}


def test_the_hub_sees_the_token(hub, get, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get()
    assert {token for *_, token in hub.requests} == {"Bearer hf_secret"}


def test_another_file_at_the_same_address_is_not_completed(hub, get, address, trained):
    hub.cut = 40_500
    get()
    hub.cut = None
    hub.addresses[address] = trained[0] + b"more"
    hub.forget()
    assert get().code == 0
    assert hub.sent[address] == len(trained[0]) + 4


def test_without_a_word_for_its_version_a_file_is_fetched_from_the_start(
    hub, get, address, home, trained
):
    """Another file of the same size takes its place: the two are not mixed."""
    hub.addresses[address] = bytes(255 - byte for byte in trained[0])
    hub.tags, hub.cut = False, 40_500
    assert get().code == 4
    hub.addresses[address], hub.cut = trained[0], None
    hub.forget()
    assert get().code == 0
    assert hub.sent[address] == len(trained[0])
    assert (home / "downloads" / NAME / "DiT.pt").read_bytes() == trained[0]


def test_an_address_without_the_file(hub, get, address, failed):
    del hub.addresses[address]
    failed(get(), 4, f"{hub.url}/models/ has no DiT.pt")


def test_a_file_that_is_here_is_converted_without_a_network(
    hub, skipdit, home, tmp_path, trained, failed
):
    (tmp_path / "mine.pt").write_bytes(trained[0])
    done = skipdit("download", NAME, "--from", tmp_path / "mine.pt")
    assert (done.code, done.out, hub.requests) == (0, f"{NAME} {converted(home)}\n", [])
    assert "not here yet: vae, tokenizer, text_encoder" in done.err
    assert (tmp_path / "mine.pt").is_file()
    failed(skipdit("download ucf101 taichi --from mine.pt"), 2, "--from is for one model")


def test_the_captions(hub, skipdit, home, monkeypatch, failed):
    entries = [
        {"id": 10 * image + i, "image_id": image, "caption": f" image {image}\ncaption {i} "}
        for image in range(8)
        for i in range(3)
    ]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(coco.MEMBER, json.dumps({"annotations": entries}))
    hub.addresses["/annotations.zip"] = file.getvalue()
    sha = hashlib.sha256(file.getvalue()).hexdigest()
    monkeypatch.setattr(coco, "ADDRESS", f"{hub.url}/annotations.zip")
    monkeypatch.setattr(coco, "COUNT", 5)
    failed(skipdit("download coco"), 4, "annotations.zip is damaged", "its sha256 is")
    monkeypatch.setattr(coco, "SHA256", sha)
    done = skipdit("download coco")
    assert (done.code, done.out) == (0, f"coco {home / 'prompts' / 'coco.txt'}\n")
    lines = (home / "prompts" / "coco.txt").read_text().splitlines()
    origin = json.loads((home / "prompts" / "coco.json").read_text())
    assert (origin["sha256"], origin["seed"], origin["count"]) == (sha, 0, 5)
    assert origin["image_ids"] == sorted(set(origin["image_ids"]))
    assert len(lines) == 5
    for image, line in zip(origin["image_ids"], lines, strict=True):
        assert re.fullmatch(rf"image {image} caption [012]", line)
    hub.forget()
    assert (skipdit("download coco").out, hub.requests) == (done.out, [])


def test_without_names_there_is_a_list(hub, get, skipdit, table):
    rows = {row["name"]: row for row in table(skipdit("download").ok().out)}
    released = {card.name for card in catalog.CARDS.values() if not card.embedded}
    assert set(rows) == released | {*lists.NAMES, "training-clips"}
    assert (rows["parti"]["state"], rows["parti"]["licence"]) == ("absent", "Apache-2.0")
    both = "CC-BY-NC-4.0 (Apache-2.0 on its model page)"
    assert (rows["latte-skip"]["licence"], rows["ffs"]["licence"]) == (both, "MIT")
    assert (rows["hunyuan-dit"]["denoiser"], rows["ffs"]["denoiser"]) == (
        "about 6.00 GB",
        "2.70 GB",
    )
    assert rows["hunyuan-dit"]["licence"] == "Tencent-Hunyuan-Community"
    assert (rows[NAME]["state"], rows["latte-skip"]["denoiser"]) == ("absent", "about 8.76 GB")
    get()
    rows = {row["name"]: row for row in table(skipdit("download").ok().out)}
    assert rows[NAME]["state"] == "here"

    rows = table(skipdit("download").ok().out, 1)
    sets = list(real_clips.DATASETS)
    assert [row["--metrics"] for row in rows] == [*assets.declared(), *sets]
    assert [row["source"] for row in rows][-4] == "maxin-cn/FaceForensics"
    of = {row["--metrics"]: (row["state"], row["for"]) for row in rows}
    assert of["alexnet"] == ("absent", "lpips, lpips@videosys")


def test_wrong_names(skipdit, failed):
    failed(skipdit("download latte-skp"), 2, "unknown model 'latte-skp'", "'latte-skip'")
    failed(skipdit("download coc"), 2, "did you mean 'coco'?")


def test_hf_endpoint_is_honoured_by_a_process_of_its_own(
    hub, skipdit, home, monkeypatch, tmp_path, failed
):
    """Of the real card, the VAE; the denoiser is here already."""
    real = home / "weights" / "ucf101"
    real.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, real / local.WEIGHTS_FILE)
    (real / "config.json").write_text("{}")
    hub.repositories["stabilityai/sd-vae-ft-ema"] = hub.repositories["someone/vae"]
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    done = skipdit.wait(skipdit.start("download ucf101"))
    assert (done.code, done.out) == (0, f"ucf101 {real / local.WEIGHTS_FILE}\n"), done
    assert names(home / "components" / "stabilityai--sd-vae-ft-ema") == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.forget()
    done = skipdit.wait(skipdit.start("download taichi"))
    failed(done, 4, "cannot fetch maxin-cn/Latte: HF_HUB_OFFLINE is set")
    assert hub.requests == []
