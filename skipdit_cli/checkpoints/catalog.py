"""Known checkpoints: what they are, where they come from, how the paper samples from them.

Sources and sizes: the official repository OpenSparseLLMs/Skip-DiT (72609de) and the model hubs;
sizes to the byte and hashes: the hubs' public lists of commits. Of the skip models the repository's
README says CC-BY-NC-4.0 and their model page Apache-2.0: the stricter has to be accepted. The
embedded models ship with the package; `skipdit train` made them.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from skipdit_cli import registry
from skipdit_cli.checkpoints import folder, local, pipeline
from skipdit_cli.checkpoints.card import (
    DIGITS,
    FASHION,
    PIPELINE,
    RANDOM,
    Card,
    Component,
    Sampling,
    by_path,
)
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError, unknown

_SKIP_HUB = "GuanjieChen/Skip-DiT"
_LATTE_HUB = "maxin-cn/Latte"
_LATTE_TEXT = "maxin-cn/Latte-1"  # Latte-0, the paper's base, has no tokenizer files
_SKIP_PAGE = "Apache-2.0 on its model page"
_HUNYUAN = "Tencent-Hunyuan/HunyuanDiT-v1.2"
_HUNYUAN_NEGATIVE = (  # text-to-image/hydit/constants.py
    "错误的眼睛，糟糕的人脸，毁容，糟糕的艺术，变形，"  # wrong eyes, bad faces, disfigured, bad art
    "多余的肢体，模糊的颜色，模糊，重复，病态，残缺，"  # extra limbs, blurry, repeated, mutilated
)
_IMAGE = Sampling("ddpm", "250", 1.5)
_VIDEO = Sampling("ddpm", "250")
_TEXT_VIDEO = Sampling("ddim", "ddim50", 7.5, learned_variance=False)
_TEXT_IMAGE = Sampling(
    "ddpm",
    "ddim50+1",
    6.0,
    betas=("scaled_linear", 0.00085, 0.02),
    prediction="v_prediction",
    learned_variance=False,
)


def _vae(repository: str, folder: str = "") -> Mapping[str, Component]:
    return {"vae": Component(repository, folder, size=335_000_000)}


def _video(
    dataset: str, files: tuple[str, ...], *, skip: bool, size: int = 0, digest: str = ""
) -> Card:
    """A class-to-video checkpoint of one dataset; only UCF101 has classes."""
    labelled = dataset == "ucf101"
    return Card(
        size=size or (2_770_000_000 if skip else 2_700_000_000),
        exact=size > 0,
        digest=digest,
        name=dataset + ("-skip" if skip else ""),
        family="latte",
        task="c2v",
        variant="Latte-XL/2",
        skip=skip,
        sampling=Sampling("ddim", "50", 7.0) if labelled else _VIDEO,
        tiny="moving-digits" + ("-skip" if skip else ""),
        arguments={"num_classes": 101} if labelled else {},
        source=_SKIP_HUB if skip else _LATTE_HUB,
        files=files,
        licence="CC-BY-NC-4.0" if skip else "MIT",
        elsewhere=_SKIP_PAGE if skip else "",
        components=_vae("stabilityai/sd-vae-ft-ema"),
        timed_batch=1,
    )


def _latte(*, skip: bool) -> Card:
    """Latte, text-to-video. The paper started its skip model from Latte-0."""
    parts = {
        "vae": Component(_LATTE_TEXT, "vae_temporal_decoder", size=391_000_000),
        "tokenizer": Component(_LATTE_TEXT, "tokenizer", size=800_000),
        "text_encoder": Component(_LATTE_TEXT, "text_encoder", size=19_050_000_000),
    }
    return Card(
        name="latte-skip" if skip else "latte",
        family="latte_t2v",
        task="t2v",
        variant="LatteT2V-XL/2",
        skip=skip,
        sampling=_TEXT_VIDEO,
        tiny="captioned-digits-skip" if skip else "captioned-digits",
        source=_SKIP_HUB if skip else "maxin-cn/Latte-0",
        files=("Latte-skip.pt",)
        if skip
        else tuple(
            f"transformer/diffusion_pytorch_model.{kind}" for kind in ("safetensors", "bin")
        ),
        size=8_760_000_000 if skip else 4_230_000_000,
        licence="CC-BY-NC-4.0" if skip else "Apache-2.0",
        elsewhere=_SKIP_PAGE if skip else "",
        components=parts,
        precisions=("float16", "float32", "tf32", "bfloat16"),
        prompts="vbench",
        timed_batch=1,
    )


def _hunyuan() -> Card:
    """HunyuanDiT v1.2, whose skip branches are native."""
    hub = f"{_HUNYUAN}-Diffusers"
    parts = {
        "vae": Component(hub, "vae", size=335_000_000),
        "tokenizer": Component(hub, "tokenizer", size=500_000),
        "text_encoder": Component(hub, "text_encoder", size=1_400_000_000),
        "tokenizer_2": Component(hub, "tokenizer_2", size=4_300_000),
        "text_encoder_2": Component(hub, "text_encoder_2", size=6_680_000_000),
    }
    return Card(
        name="hunyuan-dit",
        family="hunyuan_dit",
        task="t2i",
        variant="HunyuanDiT-g/2",
        skip=True,
        sampling=_TEXT_IMAGE,
        tiny="painted-digits",
        source=_HUNYUAN,
        files=("t2i/model/pytorch_model_ema.pt",),
        size=6_000_000_000,  # float32, as those of v1.0 and v1.1 (6.07 GB)
        licence="Tencent-Hunyuan-Community",
        components=parts,
        precisions=("float16", "float32", "tf32"),
        prompts="coco",
        timed_batch=1,
        negative_prompt=_HUNYUAN_NEGATIVE,
    )


def _embedded_text(task: str, *, skip: bool) -> Card:
    parts = {
        "tokenizer": Component("embedded", "text/tokenizer"),
        "text_encoder": Component("embedded", "text/text_encoder"),
    }
    if task == "t2v":
        name, family, sampling = "captioned-digits", "latte_t2v", _TEXT_VIDEO
        name += "-skip" if skip else ""
    else:
        name, family, sampling = "painted-digits", "hunyuan_dit", _TEXT_IMAGE
        parts = {
            "tokenizer": Component("embedded", "text/tokenizer_bert"),
            "text_encoder": Component("embedded", "text/text_encoder_bert"),
            "tokenizer_2": parts["tokenizer"],
            "text_encoder_2": parts["text_encoder"],
        }
    return Card(
        name=name,
        family=family,
        task=task,
        variant="LatteT2V-digits/4" if task == "t2v" else "HunyuanDiT-digits/4",
        skip=skip,
        sampling=replace(sampling, guidance=4.0),
        tiny=name,
        source="embedded",
        components=parts,
        prompts="digits-video" if task == "t2v" else "digits-image",
        data=DIGITS,
    )


def _embedded(task: str, *, skip: bool) -> Card:
    family, name = ("dit", "digits") if task == "c2i" else ("latte", "moving-digits")
    name += "-skip" if skip else ""
    return Card(
        name=name,
        family=family,
        task=task,
        variant="DiT-digits/4" if task == "c2i" else "Latte-digits/4",
        skip=skip,
        sampling=Sampling("ddim", "50", 2.0 if task == "c2i" else 4.0),
        tiny=name,
        arguments={"num_classes": 10},
        source="embedded",
        data=DIGITS,
    )


def _fashion(*, skip: bool) -> Card:
    """The larger embedded pair: 32x32 pixels, 64 tokens, 8 layers."""
    name = "fashion-skip" if skip else "fashion"
    return Card(
        name=name,
        family="dit",
        task="c2i",
        variant="DiT-fashion/4",
        skip=skip,
        sampling=Sampling("ddim", "50", 2.0),
        tiny=name,
        arguments={"num_classes": 10},
        source="embedded",
        data=FASHION,
    )


def _flow() -> Card:
    """The embedded pipeline, a plain one of diffusers of today's kind.

    Its captions are few words: of T5's tokens it takes fewer than the 256 of the call's default.
    """
    name = "flow-digits"
    return Card(
        name=name,
        family=PIPELINE,
        task="t2i",
        variant="StableDiffusion3Pipeline",
        skip=False,
        sampling=Sampling("FlowMatchEulerDiscreteScheduler", "28", 3.0),
        tiny=name,
        arguments={"max_sequence_length": 8},
        source="embedded",
        prompts="digits-image",
        folder=str(shipped.embedded() / name),
        data=DIGITS,
    )


_ALL = (
    _embedded("c2i", skip=False),
    _embedded("c2i", skip=True),
    _embedded("c2v", skip=False),
    _embedded("c2v", skip=True),
    _embedded_text("t2v", skip=False),
    _embedded_text("t2v", skip=True),
    _embedded_text("t2i", skip=True),
    _fashion(skip=False),
    _fashion(skip=True),
    Card(
        name="dit-xl-2",
        family="dit",
        task="c2i",
        variant="DiT-XL/2",
        skip=False,
        sampling=_IMAGE,
        tiny="digits",
        source="https://dl.fbaipublicfiles.com/DiT/models/",
        files=("DiT-XL-2-256x256.pt",),
        size=2_700_000_000,
        licence="CC-BY-NC-4.0",
        components=_vae("stabilityai/sd-vae-ft-mse"),
        timed_batch=8,
    ),
    Card(
        name="dit-xl-2-skip",
        family="dit",
        task="c2i",
        variant="DiT-XL/2",
        skip=True,
        sampling=_IMAGE,
        tiny="digits-skip",
        source=_SKIP_HUB,
        files=("DiT-XL-2-skip.pt",),
        size=11_396_127_829,
        exact=True,
        digest="ad6cfacc",
        licence="CC-BY-NC-4.0",
        elsewhere=_SKIP_PAGE,
        components=_vae("stabilityai/sd-vae-ft-mse"),
        timed_batch=8,
    ),
    _video("ucf101", ("ucf101.pt",), skip=False),
    _video("ucf101", ("ucf101-skip.pt",), skip=True, size=2_771_053_040, digest="4f65d391"),
    _video("taichi", ("taichi-hd.pt",), skip=False),
    _video("taichi", ("taichi-skip.pt",), skip=True, size=2_770_582_642, digest="39526a5d"),
    _video("ffs", ("ffs.pt",), skip=False, size=2_696_092_281),
    _video("ffs", ("ffs-skip.pt",), skip=True, size=2_770_582_642),  # uploaded three times
    _video("skytimelapse", ("skytimelapse.pt",), skip=False),
    _video("skytimelapse", ("skytimelapse-skip.pt", "skylapse-skip.pt"), skip=True),
    _latte(skip=False),
    _latte(skip=True),
    _hunyuan(),
)
CARDS: Mapping[str, Card] = {card.name: card for card in _ALL}  # of the families here
PIPELINES: Mapping[str, Card] = {"flow-digits": _flow()}  # that ship, of diffusers' own classes


def cards() -> dict[str, Card]:
    """All checkpoints by name: those above, and those of families of other distributions.

    Raises:
        SkipditError: the file of such a family is broken.
    """
    families = [registry.load("models", name) for name in registry.foreign("models")]
    added = {card.name: card for family in families for card in family.CHECKPOINTS}
    return {**added, **CARDS, **PIPELINES}


def card(name: str, *, place: str = "") -> Card:
    """The card of a checkpoint, by its name or by the path of its folder; a name comes first.

    Raises:
        UsageError: no such checkpoint; the nearest name is named. Or its folder has a mistake.
    """
    if name in CARDS:
        return CARDS[name]
    if (known := cards()) and name in known:
        return known[name]
    if not _is_path(name):
        raise unknown("model", name, known, place=place)
    if pipeline.is_one(name):
        return folder.of_pipeline(pipeline.card(folder.called(Path(name)), place=place))
    return folder.read(Path(name), place=place)


def of_run(name: str, weights: str) -> Card:
    """The card of the checkpoint of a run that was made.

    Args:
        weights: the fingerprint that the run has of them.
    Raises:
        UsageError: it is not where it was, or a pipeline there is another one now, which would cost
            something else.
    """
    if _is_path(name) and not os.path.exists(name) and not pipeline.is_one(name):
        fix = "put it back, or make the run again with its new place"
        if not os.path.isabs(name):
            fix += ", or call this from where its path leads to it"
        raise UsageError(f"its model, {name}, is not there any more", fix=fix)
    found = card(name)
    known = found.pipeline and weights not in ("", "absent", RANDOM)
    if known and local.fingerprint(found) not in (weights, "absent"):
        fix = "put that back, or make the run again"
        raise UsageError(f"{name} is not the pipeline any more that made it", fix=fix)
    return found


def known(text: str) -> bool:
    """Whether a text is the name of a checkpoint, or a path, whether that is there or not."""
    return text in CARDS or _is_path(text) or text in cards()


def named(text: str) -> str:
    """The name of the model that a text means, as `card` has it, whether it is there or not."""
    if text in CARDS or text in cards() or not _is_path(text):
        return text
    return folder.called(Path(text))


def _is_path(text: str) -> bool:
    return by_path(text) or os.sep in text or os.path.isdir(text)
