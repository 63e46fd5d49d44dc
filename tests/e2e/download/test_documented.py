"""Every `skipdit download` line of the pages, run as it is written and in their order.

The server of conftest.py has every released checkpoint and all that metrics need under their own
names; what is inside is small: one network in place of each, and stand-ins for I3D and Inception.
"""

import hashlib
import io
import json
import shlex
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from skipdit_cli.assets import assets, coco, lists
from skipdit_cli.assets import clips as on_hub
from skipdit_cli.checkpoints import catalog
from skipdit_cli.metrics import Extractor, _i3d, _inception
from skipdit_cli.score import real_videos
from skipdit_cli.storage import codec

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))
VIDEO_SETS = ("ffs", "skytimelapse", "taichi", "ucf101")
VIDEO_MODELS = tuple(f"{name}{skip}" for name in VIDEO_SETS for skip in ("", "-skip"))
IMAGES = ("dit-xl-2", "dit-xl-2-skip", "inception", "imagenet256")


@dataclass(frozen=True)
class Then:
    """What a line prints: the names of all that is there after it; `fetches`: whether any of it
    had to be."""

    names: tuple[str, ...]
    fetches: bool = True


def clips(*names: str, fetches: bool = False) -> Then:
    made = (f"{name}/{protocol}" for name in names for protocol in ("released", "latte"))
    return Then(tuple(made), fetches=fetches)


LINES = {
    "README.md": {"skipdit download": Then((), fetches=False)},  # a list
    "docs/checkpoints.md": {
        "skipdit download": Then((), fetches=False),
        "skipdit download latte-skip --dry-run": Then((), fetches=False),
        "skipdit download latte-skip --accept-license": Then(("latte-skip",)),
        "skipdit download --metrics ffs --accept-license": clips("ffs", fetches=True),
        "skipdit download training-clips --accept-license": Then(("training-clips",)),
    },
    "docs/metrics.md": {
        "skipdit download --metrics fid,lpips,fvd --accept-license": Then(
            ("inception", "imagenet256", "alexnet", "i3d")
        ),
        "skipdit download --metrics ffs --accept-license": clips("ffs", fetches=True),
        "skipdit download --metrics ucf101 --from FOLDER": clips("ucf101"),
    },
    "docs/models.md": {"skipdit download drawbench geneval parti": Then((*lists.PUBLISHED,))},
    "docs/tables.md": {
        "skipdit download": Then((), fetches=False),  # a list
        "skipdit download --recipe table3 --dry-run": Then((), fetches=False),
        "skipdit download --recipe table1 --accept-license": Then(
            (*VIDEO_MODELS, "inception", "i3d")
        ),
        "skipdit download --metrics ffs,skytimelapse,taichi --accept-license": clips(
            "ffs", "skytimelapse", "taichi", fetches=True
        ),
        "skipdit download --metrics ucf101 --from data/ucf101": clips("ucf101"),
        # "as Table 1"
        "skipdit download --recipe table2 --accept-license": Then(
            (*VIDEO_MODELS, "inception", "i3d"), fetches=False
        ),
        "skipdit download --recipe table3 --accept-license": Then(
            ("latte", "latte-skip", "alexnet")
        ),
        "skipdit download --recipe table5 --accept-license": Then(
            ("latte-skip", "alexnet"), fetches=False
        ),
        "skipdit download --recipe table6 --accept-license": Then(
            ("latte-skip", "alexnet"), fetches=False
        ),
        "skipdit download --recipe table4 --accept-license": Then(
            ("hunyuan-dit", "coco", "inception", "coco-val2014", "clip", "alexnet")
        ),
        "skipdit download --recipe table8 --accept-license": Then(IMAGES),
        "skipdit download --recipe table7 --accept-license": Then(IMAGES, fetches=False),
    },
}


@pytest.mark.parametrize("page", PAGES)
def test_every_line_has_an_expectation(documented, page):
    lines = [line for line in documented(page) if line.startswith("skipdit download")]
    assert set(lines) == set(LINES.get(page, {}))


@pytest.fixture
def everything(hub, home, trained, put_card, put_asset, clip, monkeypatch):
    """All that can be downloaded, on the server."""
    tensors = save({"weight": torch.ones(100)})
    small = catalog.card("digits-skip")
    known = {"family": small.family, "variant": small.variant, "arguments": small.arguments}
    hub.repositories.clear()
    for card in catalog._ALL:
        if card.embedded:
            continue
        name = card.files[0]
        content = save(trained[1]) if name.endswith(".safetensors") else trained[0]
        if "://" in card.source:
            hub.addresses[f"/models/{name}"] = content
        else:
            hub.repositories.setdefault(card.source, {})[name] = content
        for key, part in card.components.items():
            files = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": tensors}
            if key.startswith("tokenizer"):
                files = {"tokenizer_config.json": b"{}", "spiece.model": b"pieces"}
            inside = f"{part.folder}/" if part.folder else ""
            listed = {inside + file: content for file, content in files.items()}
            hub.repositories.setdefault(part.repository, {}).update(listed)
        source = f"{hub.url}/models/" if "://" in card.source else card.source
        as_served = {"exact": False, "digest": ""}
        put_card(replace(card, **known, **as_served, skip=True, source=source))
    for name, asset in {**assets.declared(), **lists.PUBLISHED}.items():
        put_asset(name, **stand_in(hub, asset))
    for each in on_hub.ON_HUB.values():
        content = {f"train/{i}.mkv": clip(i) for i in range(2)}
        hub.repositories[f"datasets/{each.source}"] = content
    captions = [{"id": i, "image_id": i, "caption": f"caption {i}"} for i in range(5)]
    archive = zipped(coco.MEMBER, json.dumps({"annotations": captions}))
    hub.addresses["/annotations.zip"] = archive
    monkeypatch.setattr(coco, "ADDRESS", f"{hub.url}/annotations.zip")
    monkeypatch.setattr(coco, "COUNT", 5)
    monkeypatch.setattr(coco, "SHA256", hashlib.sha256(archive).hexdigest())
    return hub


def stand_in(hub, asset):
    """Put something small on the server for an asset; returns what is then known of it."""
    if not asset.file:
        files = dict.fromkeys(
            ("config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"),
            b"{}",
        )
        weight = save({"weight": torch.ones(9)})
        hub.repositories[asset.source] = files | {"model.safetensors": weight}
        return {}
    content = asset.name.encode() * 20
    if asset.file.endswith(".npz"):
        npz = io.BytesIO()
        np.savez(npz, mu=np.zeros(4))
        content = npz.getvalue()
    elif asset.file.endswith(".zip"):
        content = zipped("val2014/a.jpg", "an image")
    hub.addresses[f"/{asset.file}"] = content
    digest = hashlib.sha256(content).hexdigest()
    return {"source": f"{hub.url}/{asset.file}", "size": len(content), "digest": digest}


def zipped(name, text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


@pytest.fixture
def clip(tmp_path):
    """clip(i): a file of 92 frames, enough for every sixth of them."""

    def make(i):
        levels = np.arange(92, dtype=np.uint8)[:, None, None, None]
        frames = np.broadcast_to(levels + 50 * i, (92, 8, 8, 3))
        codec.write_clip(tmp_path / "clip.mkv", np.ascontiguousarray(frames))
        return (tmp_path / "clip.mkv").read_bytes()

    return make


@pytest.fixture
def videos(tmp_path, clip, monkeypatch):
    """Folders of clips where the pages have them, and networks that see their grey value."""
    for folder in ("FOLDER", "data/ucf101"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(2):
            (tmp_path / folder / f"{i}.mkv").write_bytes(clip(i))

    def grey(clips):
        return np.stack([clip.mean(axis=(1, 2)) for clip in clips])

    def sees(name, see):
        return Extractor(name, 1, (), lambda networks, device: lambda clips: {name: see(clips)})

    monkeypatch.setattr(_i3d, "EXTRACTOR", sees("logits", lambda c: grey(c).mean(axis=1)))
    monkeypatch.setattr(_inception, "FRAMES", sees("pool", grey))
    monkeypatch.setattr(real_videos, "SIDE", 8)


@pytest.mark.slow
@pytest.mark.parametrize("page", LINES)
def test_every_line_does_what_the_page_says(
    skipdit, documented, everything, videos, home, table, page
):
    for line in documented(page):
        if line in LINES[page]:
            try:
                follow(skipdit, everything, line, LINES[page][line])
            except AssertionError as error:
                error.add_note(f"{page}: {line}")
                raise
    if page == "docs/tables.md":  # `skipdit doctor` says what a machine lacks for each table
        checks = {each["check"]: each for each in json.loads(skipdit("doctor --json").ok().out)}
        assert {checks[f"recipe table{i}"]["detail"] for i in range(1, 9)} == {
            "both scales can run"
        }


def follow(skipdit, hub, line, then):
    hub.forget()
    done = skipdit(*shlex.split(line)[1:])
    assert done.code == 0, done
    printed = dict(shown.split(" ", 1) for shown in done.out.splitlines() if then.names)
    assert set(printed) == set(then.names)
    assert [path for path in printed.values() if not Path(path).exists()] == []
    assert bool(hub.sent) == then.fetches, hub.sent
    known = {**assets.declared(), **lists.PUBLISHED}
    for name in printed.keys() & known.keys():  # "each with its hash"
        assert len(assets.record(known[name])["sha256"]) == 64
    if line == "skipdit download":
        assert "| hunyuan-dit " in done.out
        assert "Tencent-Hunyuan-Community" in done.out
    if "--dry-run" in line:
        assert any(path.startswith("/api/models/maxin-cn/") for path in hub.paths)
        assert "to fetch: " in done.out
        assert "maxin-cn/Latte-1/text_encoder/" in done.out
