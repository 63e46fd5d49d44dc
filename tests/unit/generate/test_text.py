"""Text embeddings: made once, kept on disk, independent of batch and order; and what can be wrong
with an encoder. On the text encoders that ship with the package."""

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.checkpoints.card import Component
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, SkipditError, SkipditWarning, UsageError
from skipdit_cli.generate import conditioning, text
from skipdit_cli.recipe.runs import make_run

VIDEO = catalog.card("captioned-digits")  # T5, cut to the tokens of each prompt
IMAGE = catalog.card("painted-digits")  # BERT and T5, all tokens and a mask
SHORT, LONG = "a three", "a three moving to the left"
EMBEDDED = shipped.embedded() / "text"


@pytest.fixture
def seen(monkeypatch):
    """What the encoders read: (class, token ids) of every prompt, in batches of one size."""
    calls = []
    for kind in (transformers.T5EncoderModel, transformers.BertModel):

        def forward(self, *args, original=kind.forward, **given):
            ids = given["input_ids"].tolist()
            assert len(ids) == text.BATCH
            calls.extend(
                (type(self).__name__, [list(row)]) for row in dict.fromkeys(map(tuple, ids))
            )
            return original(self, *args, **given)

        monkeypatch.setattr(kind, "forward", forward)
    return calls


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A card whose encoders are in a home of their own, to be changed: (card, folder)."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "components" / "some--text"
    for name, source in (
        ("tokenizer", "tokenizer_bert"),
        ("text_encoder", "text_encoder_bert"),
        ("tokenizer_2", "tokenizer"),
        ("text_encoder_2", "text_encoder"),
    ):
        shutil.copytree(EMBEDDED / source, folder / name)
    parts = {name: Component("some/text", name, size=5_000_000) for name in IMAGE.components}
    return replace(IMAGE, name="some-model", components=parts), folder


def files(root):
    """Content of every embedding by its path under the results folder."""
    found = (root / "embeddings").rglob("*.safetensors")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_prompt_is_encoded_once_for_all_rows_of_a_sweep(tmp_path, seen):
    """Three prompts and the null prompt, whatever the cache, the skips, and the seed."""
    given = {"prompts": (SHORT, LONG, SHORT, "an eight moving up"), "num_samples": 4}
    rows = [
        make_run(model, cache, given | {"seed": seed})
        for model in ("captioned-digits", "captioned-digits-skip")
        for seed, cache in enumerate(["none", "skip-cache(n=2)"][: 1 + model.endswith("skip")])
    ]
    assert len({row.key for row in rows}) == 3
    for row in rows:
        conditioning.prepare(row, tmp_path)
    assert len(seen) == len({str(ids) for _, ids in seen}) == 4
    assert len(files(tmp_path)) == 4

    more = replace(rows[0], prompts=(*rows[0].prompts, "a one"), num_samples=5)
    conditioning.prepare(more, tmp_path)
    assert len(seen) == 5  # the new one alone
    conditioning.prepare(replace(more, prompts=("a two", *more.prompts), num_samples=1), tmp_path)
    assert len(seen) == 6  # and of a list only what the samples need


def test_what_is_on_disk_needs_no_encoder(tmp_path, monkeypatch):
    text.encode(IMAGE, [SHORT], root=tmp_path)
    monkeypatch.setattr(text, "_encoder", lambda *_, **__: pytest.fail("loaded an encoder"))
    text.encode(IMAGE, [SHORT], root=tmp_path)
    given, _ = text.conditions(IMAGE, [SHORT], root=tmp_path)
    assert given["encoder_hidden_states"].shape == (1, 12, 32)


@pytest.mark.parametrize("stop", [2, 6])
def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path, monkeypatch, seen, stop):
    """Four texts, two encoders: stopped in the first (BERT) or in the second (T5)."""
    prompts = [SHORT, LONG, "a one"]
    save, saved = text._save, []

    def interrupted(path, content):
        if len(saved) == stop:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, content)

    monkeypatch.setattr(text, "_save", interrupted)
    root = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        text.encode(IMAGE, prompts, root=root)
    assert len(files(root)) == stop
    monkeypatch.setattr(text, "_save", save)

    seen.clear()
    progress = []
    text.encode(IMAGE, prompts, root=root, progress=lambda *n: progress.append(n))
    kinds = [kind for kind, _ in seen]
    assert kinds == ["BertModel"] * max(4 - stop, 0) + ["T5EncoderModel"] * min(8 - stop, 4)
    assert progress == [(n + 1, 8 - stop) for n in range(8 - stop)]
    text.encode(IMAGE, prompts, root=tmp_path / "whole")
    assert files(root) == files(tmp_path / "whole")


def test_embeddings_do_not_depend_on_batch_and_order(tmp_path):
    prompts = [SHORT, LONG, "an eight moving up"]
    text.encode(IMAGE, prompts, root=tmp_path / "together")
    text.encode(IMAGE, prompts[::-1], root=tmp_path / "reversed")
    for prompt in prompts:
        text.encode(IMAGE, [prompt], root=tmp_path / "one-by-one")
    together = files(tmp_path / "together")
    assert len(together) == 2 * 4
    assert files(tmp_path / "reversed") == files(tmp_path / "one-by-one") == together


@pytest.mark.few(1)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bits_of_an_embedding_do_not_depend_on_its_batch_or_its_place_in_it(
    tmp_path, precision
):
    """More prompts than fit in one batch, in every order that a batch can begin with."""
    prompts = [f"a {digit} moving {way}" for digit in ("one", "two", "nine") for way in "abcd"]
    text.encode(IMAGE, prompts, root=tmp_path / "all", precision=precision)
    whole = files(tmp_path / "all")
    assert len(whole) == 2 * (1 + len(prompts)) > 2 * text.BATCH
    for start in range(1, text.BATCH):
        root = tmp_path / str(start)
        text.encode(IMAGE, prompts[start:] + prompts[:start], root=root, precision=precision)
        assert files(root) == whole


def test_embeddings_are_those_of_the_encoder_in_its_precision(tmp_path):
    """The last hidden states, all tokens up to the family's length, padding included."""
    model = transformers.BertModel.from_pretrained(EMBEDDED / "text_encoder_bert").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(EMBEDDED / "tokenizer_bert")
    tokens = tokenizer([LONG], padding="max_length", max_length=12, return_tensors="pt")
    for dtype in (torch.float32, torch.float16):
        name = str(dtype).removeprefix("torch.")
        text.encode(IMAGE, [LONG], root=tmp_path, precision=name)
        given, null = text.conditions(IMAGE, [LONG, LONG], root=tmp_path, precision=name)
        with torch.no_grad():
            expected = model.to(dtype)(**tokens).last_hidden_state[0]
        for states in given["encoder_hidden_states"]:
            assert states.dtype == dtype
            torch.testing.assert_close(states, expected)
        assert given["text_embedding_mask"].tolist() == [tokens["attention_mask"][0].tolist()] * 2
        assert given["text_embedding_mask"].sum() == null["text_embedding_mask"].sum() + 2 * 6
    assert len({path.split("/")[1] for path in files(tmp_path)}) == 2  # a folder for each


def test_text_to_video_cuts_both_halves_to_the_tokens_of_the_prompt(tmp_path):
    text.encode(VIDEO, [SHORT, LONG], root=tmp_path)
    contents = [load_file(path) for path in (tmp_path / "embeddings").rglob("*.safetensors")]
    null, short, long = sorted(contents, key=lambda content: int(content["mask"].sum()))
    counts = [int(content["mask"].sum()) for content in (null, short, long)]
    assert len(null["states"]) == 120
    assert counts[0] < counts[1] < counts[2]
    given, unconditional = text.conditions(VIDEO, [SHORT, LONG], root=tmp_path)
    a, b = counts[1:]
    for half, contents in ((given, (short, long)), (unconditional, (null, null))):
        states = half["encoder_hidden_states"]
        assert states.shape == (2, b, 32)
        assert torch.equal(states[0, :a], contents[0]["states"][:a])
        assert not states[0, a:].any()
        assert torch.equal(states[1], contents[1]["states"][:b])
        assert half["encoder_attention_mask"].tolist() == [[1] * a + [0] * (b - a), [1] * b]


@pytest.mark.parametrize("card", [VIDEO, IMAGE], ids=["video", "image"])
def test_a_padded_batch_gives_what_its_prompts_give_alone(tmp_path, card):
    generator = torch.Generator().manual_seed(3)
    model = networks.build(card, device="cpu").requires_grad_(False).eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise / max(parameter[0].numel(), 25) ** 0.5)
    prompts = [SHORT, LONG, "up"]
    text.encode(card, prompts, root=tmp_path)
    shape = model.inputs(1)["hidden_states"].shape[1:]
    x = torch.randn(1, *shape, generator=generator)
    t = torch.tensor([500])

    def outputs(wanted):
        """Of the conditional and of the null half, one after the other."""
        halves = text.conditions(card, wanted, root=tmp_path)
        many = len(wanted)
        return [
            model(x.expand(many, *shape), t.expand(many), **half, return_dict=False)[0]
            for half in halves
        ]

    together, alone = outputs(prompts), [outputs([prompt]) for prompt in prompts]
    for half in (0, 1):
        for i in range(3):
            torch.testing.assert_close(together[half][i], alone[i][half][0], rtol=1e-4, atol=1e-5)
    difference = (alone[0][0] - alone[1][0]).abs().max()
    assert difference > 1e-2 * alone[0][0].abs().max()  # the text matters


def test_a_mask_of_ones_alone_is_left_out(tmp_path):
    """It would keep attention from its fastest kernels, and says nothing."""
    text.encode(VIDEO, [SHORT, LONG], root=tmp_path)
    for wanted, kept in (([SHORT], False), ([LONG, LONG], False), ([SHORT, LONG], True)):
        for half in text.conditions(VIDEO, wanted, root=tmp_path):
            assert ("encoder_attention_mask" in half) is kept
    text.encode(IMAGE, [SHORT], root=tmp_path)  # what is padding is replaced there, not masked
    given, _ = text.conditions(IMAGE, [SHORT], root=tmp_path)
    assert {"text_embedding_mask", "text_embedding_mask_t5"} < given.keys()


def test_prompts_of_text_to_video_are_cleaned_as_the_official_pipeline_does(tmp_path, seen):
    """What the encoder gets is what is kept: prompts that are the same to it are encoded once."""
    text.encode(VIDEO, [SHORT], root=tmp_path)
    _, expected = (ids for _, ids in seen)
    text.encode(VIDEO, ["  A Three ", "A (three)", "a & three", "a 3x4 three"], root=tmp_path)
    assert len(seen) == 2
    given, _ = text.conditions(VIDEO, ["A & Three", SHORT], root=tmp_path)
    assert torch.equal(*given["encoder_hidden_states"])
    text.encode(VIDEO, ["a-one-two-three-four"], root=tmp_path)
    assert seen[-1][1] != expected


def test_embeddings_of_uncleaned_prompts_are_not_taken(tmp_path, monkeypatch):
    """What was kept by an earlier way of cleaning, under the same name, lies elsewhere."""
    text.encode(VIDEO, [SHORT], root=tmp_path)
    monkeypatch.setattr(text, "TEXT", text.TEXT - 1)
    assert text.absent(VIDEO, [SHORT], root=tmp_path) == {"": ["", SHORT]}


def test_the_null_half_is_of_the_negative_prompt(tmp_path, seen):
    """It is the card's own where none is given, for both encoders."""
    text.encode(IMAGE, [SHORT, LONG], root=tmp_path, negative="")
    given, empty = text.conditions(IMAGE, [SHORT], root=tmp_path)
    other, null = text.conditions(IMAGE, [SHORT], root=tmp_path, negative=LONG)
    as_prompt, _ = text.conditions(IMAGE, [LONG], root=tmp_path)
    for key, value in null.items():
        assert torch.equal(value, as_prompt[key])
        assert torch.equal(given[key], other[key])
        assert not torch.equal(value, empty[key])
    own = replace(IMAGE, negative_prompt="a nine")
    count = len(seen)
    assert text.absent(own, [SHORT], root=tmp_path) == {"": ["a nine"], "_2": ["a nine"]}
    text.encode(own, [SHORT], root=tmp_path)
    assert [kind for kind, _ in seen[count:]] == ["BertModel", "T5EncoderModel"]
    _, null = text.conditions(own, [SHORT], root=tmp_path)
    _, same = text.conditions(IMAGE, [SHORT], root=tmp_path, negative="a nine")
    assert all(torch.equal(value, same[key]) for key, value in null.items())


def test_the_official_negative_prompt_is_what_hunyuan_encodes(tmp_path, monkeypatch):
    read = []

    def encoder(card, suffix, **_):
        def run(prompts):
            read.extend((suffix, prompt) for prompt in prompts)
            return [(torch.zeros(4, 8), torch.ones(4, dtype=torch.int64)) for _ in prompts]

        return run

    monkeypatch.setattr(text, "_encoder", encoder)
    card = catalog.card("hunyuan-dit")
    text.encode(card, [" a dog "], root=tmp_path, precision="float16")
    official = (
        "错误的眼睛，糟糕的人脸，毁容，糟糕的艺术，变形，"
        "多余的肢体，模糊的颜色，模糊，重复，病态，残缺，"
    )
    assert read == [(end, prompt) for end in ("", "_2") for prompt in (official, "a dog")]


CUT = "a three " * 10  # 20 words, and one special token or two


def test_a_prompt_that_is_cut_is_told_with_how_much(tmp_path):
    run = make_run("painted-digits", settings={"prompts": (SHORT, CUT), "num_samples": 2})
    for _ in range(2):  # the second time all embeddings are on disk
        with pytest.warns(SkipditWarning) as told:
            conditioning.prepare(run, tmp_path)
        assert [str(warning.message) for warning in told] == [
            "painted-digits prompt 'a three a three a three a three a three ... hree a three a "
            "three': text_encoder reads 12 tokens of it and 10 are cut, text_encoder_2 reads 12 "
            "tokens of it and 9 are cut; write it shorter, or in other words"
        ]
    conditioning.prepare(replace(run, prompts=(SHORT, LONG)), tmp_path)  # nothing to tell


def test_the_negative_prompt_is_told_if_it_is_cut():
    with pytest.warns(SkipditWarning, match="text_encoder reads 12 tokens of it and 10 are cut"):
        text.warn_of_cuts(IMAGE, [SHORT], negative=CUT)


def test_a_prompt_of_which_nothing_is_left_is_told():
    with pytest.warns(SkipditWarning, match=r"prompt 'cat\.png': nothing is left of it"):
        text.warn_of_cuts(VIDEO, ["cat.png", SHORT, ""])
    text.warn_of_cuts(VIDEO, [SHORT, ""])  # the empty one is meant to be


def test_of_many_prompts_that_are_cut_some_are_named():
    with pytest.warns(SkipditWarning) as told:
        text.warn_of_cuts(IMAGE, [CUT + word for word in "abcdefghijklmno"])
    lines = [str(warning.message) for warning in told]
    assert len(lines) == text.TOLD + 1
    assert lines[-1] == "painted-digits: 5 more prompts are cut"


def test_captions_are_not_left_uncleaned_where_a_package_is_absent(monkeypatch):
    from diffusers.pipelines.latte import pipeline_latte

    for package in ("bs4", "ftfy"):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline_latte, f"is_{package}_available", lambda: False)
            with pytest.raises(MissingAssetError, match="pip install beautifulsoup4 ftfy"):
                text.encode(VIDEO, [SHORT], root=Path("nowhere"))


@pytest.mark.parametrize(
    ("name", "suffix"), [("text_encoder", ""), ("tokenizer_2", "_2")], ids=["encoder", "tokenizer"]
)
def test_another_encoder_or_tokenizer_makes_other_embeddings(fetched, tmp_path, seen, name, suffix):
    card, folder = fetched
    text.encode(card, [SHORT], root=tmp_path)
    assert len(seen) == 4
    if suffix:
        path = folder / name / "tokenizer_config.json"
        path.write_text(path.read_text() + "\n")
    else:
        path = folder / name / "model.safetensors"
        state = load_file(path)
        state["encoder.layer.0.output.dense.bias"][0] += 1
        save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(MissingAssetError):  # the old ones are not taken
        text.conditions(card, [SHORT], root=tmp_path)
    text.encode(card, [SHORT], root=tmp_path)
    assert len(seen) == 8


def test_the_encoders_are_gone_when_all_is_encoded(tmp_path, monkeypatch):
    """One is gone before the next is loaded: the two of HunyuanDiT never share the memory."""
    loaded, load = [], text._load_model

    def record(*given, **how):
        assert [model() for model in loaded] == [None] * len(loaded)
        model = load(*given, **how)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(text, "_load_model", record)
    conditioning.prepare(make_run("painted-digits", settings={"prompts": (SHORT,)}), tmp_path)
    assert [model() for model in loaded] == [None, None]


@pytest.mark.parametrize("damage", ["a bit", "truncated", "empty", "gone", "swapped"])
def test_a_damaged_embedding_is_told_and_made_again(tmp_path, damage):
    text.encode(VIDEO, [SHORT], root=tmp_path)
    right, null = text.conditions(VIDEO, [SHORT], root=tmp_path)
    first, other = sorted((tmp_path / "embeddings").rglob("*.safetensors"))
    whole = first.read_bytes()
    made = {
        "a bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "truncated": whole[:-20],
        "empty": b"",
        "swapped": other.read_bytes(),
    }
    if damage == "gone":
        first.unlink()
    else:
        first.write_bytes(made[damage])
    with pytest.raises(SkipditError, match=r"embeddings/.*; run the same command again"):
        text.conditions(VIDEO, [SHORT], root=tmp_path)
    if damage == "gone":
        text.encode(VIDEO, [SHORT], root=tmp_path)
    else:
        with pytest.warns(SkipditWarning, match="is not a readable embedding of a prompt"):
            text.encode(VIDEO, [SHORT], root=tmp_path)
    again, null_again = text.conditions(VIDEO, [SHORT], root=tmp_path)
    for before, after in ((right, again), (null, null_again)):
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"])
@pytest.mark.parametrize("partly", [True, False], ids=["half-fetched", "absent"])
def test_a_part_that_is_not_here_names_the_download(fetched, tmp_path, name, partly):
    card, folder = fetched
    if partly:
        (folder / name / local.INCOMPLETE).touch()
    else:
        shutil.rmtree(folder / name)
    with pytest.raises(MissingAssetError) as caught:
        text.encode(card, [SHORT], root=tmp_path)
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        f"the {name} of some-model is not here; "
        "run `skipdit download some-model` (about 5.0 MB for this part)"
    )


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forget(path):
    """Weights that lack one of the keys, which transformers would draw at random."""
    state = load_file(path)
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("text_encoder/model.safetensors", truncate),
        ("text_encoder/model.safetensors", forget),
        ("text_encoder/model.safetensors", Path.unlink),
        ("text_encoder/config.json", truncate),
        ("text_encoder/config.json", Path.unlink),
        ("tokenizer/tokenizer.json", truncate),
        ("tokenizer/tokenizer.json", lambda path: path.write_text("{}")),
        ("tokenizer/tokenizer.json", Path.unlink),
        ("tokenizer/tokenizer_config.json", truncate),
    ],
)
def test_a_damaged_encoder_is_told_in_one_line(fetched, tmp_path, capfd, file, damage):
    card, folder = fetched
    damage(folder / file)
    with pytest.raises(MissingAssetError) as caught:
        text.encode(card, [SHORT], root=tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{(folder / file).parent}: cannot be loaded (")
    assert line.endswith("); fetch it again")
    assert len(line.splitlines()) == 1
    assert capfd.readouterr() == ("", "")  # no reports of transformers beside it
    assert not (tmp_path / "embeddings").exists()


def test_a_tokenizer_that_has_lost_its_vocabulary(tmp_path, monkeypatch):
    """transformers makes a vocabulary up for these, in which every word is unknown."""
    for kind in ("T5Tokenizer", "BertTokenizer"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
        with pytest.raises(
            MissingAssetError, match=rf"{kind}: cannot be loaded \(it has no vocabulary\)"
        ):
            text._load_tokenizer(folder)


def test_an_encoder_of_another_type(fetched, tmp_path):
    card, folder = fetched
    (folder / "text_encoder_2" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UsageError) as caught:
        text.encode(card, [SHORT], root=tmp_path)
    assert str(caught.value) == (
        f"{folder / 'text_encoder_2'}: a text encoder of type 'gpt2' cannot be used; "
        "take T5 or BERT"
    )
