"""Which metrics can score what, and what is said of the others."""

from dataclasses import replace

import pytest

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.card import PIPELINE, data_of
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.score import jobs, reference
from skipdit_cli.score.applicable import check, to_model, to_model_now


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("digits", {"psnr", "ssim", "fid@digits", "accuracy@digits"}),
        ("moving-digits-skip", {"psnr", "ssim", "fvd@digits", "accuracy@digits"}),
        (
            "captioned-digits",
            {"psnr", "ssim", "fvd@digits", "accuracy@digits", "motion@digits"},
        ),
        ("painted-digits", {"psnr", "ssim", "fid@digits", "accuracy@digits"}),
        ("fashion", {"psnr", "ssim", "fid@fashion", "accuracy@fashion"}),
        ("hunyuan-dit", {"psnr", "ssim"}),
    ],
)
def test_the_metrics_that_fit_a_model(model, expected):
    card = catalog.card(model)
    assert expected <= set(to_model(card))
    of_data = {name for name in registry.names("metrics") if data_of(name)}
    assert len({data_of(name) for name in of_data}) == 2
    assert set(to_model(card)) & of_data == expected & of_data
    for metric in of_data - expected:
        with pytest.raises(UsageError) as caught:
            check(metric, card, place="HERE")
        assert str(caught.value) == (
            f"HERE: {metric} cannot score samples of {model}; "
            f"take one of {', '.join(to_model(card))}"
        )
    for metric in expected:
        check(metric, card)


def test_other_protocols_of_a_metric_are_left_out_unless_asked_for():
    plain, all_of_them = to_model(catalog.card("ffs")), to_model(catalog.card("ffs"), variants=True)
    assert set(all_of_them) - set(plain) == {
        *("psnr@videosys", "ssim@videosys", "lpips@videosys"),
        "fvd@latte",
    }
    assert "fid@frames" in plain  # there is no plain `fid` of clips


def test_the_metrics_of_a_model_of_ones_own():
    """Those of digits are about the data, not about who trained the model."""
    mine = replace(catalog.card("digits-skip"), name="a/mine", tiny="", data="")
    digits = {name for name in registry.names("metrics") if name.endswith("@digits")}
    assert not digits & set(to_model(mine))
    assert jobs.usual_metrics(mine) == ["psnr", "ssim"]
    assert {"psnr", "ssim"} <= set(to_model_now(mine))
    of_digits = replace(mine, data="digits")
    assert to_model(of_digits) == to_model(catalog.card("digits-skip"))
    assert jobs.usual_metrics(of_digits) == ["psnr", "ssim", "accuracy@digits"]
    of_fashion = replace(mine, data="fashion")
    assert jobs.usual_metrics(of_fashion) == ["psnr", "ssim", "accuracy@fashion"]
    assert {"fid@fashion", "lpips"} <= set(to_model(of_fashion))
    unlabelled = replace(of_digits, arguments={"num_classes": None})
    assert jobs.usual_metrics(unlabelled) == ["psnr", "ssim"]


@pytest.mark.parametrize("metric", ["fid", "cmmd", "fvd", "fid@frames"])
def test_data_that_is_not_known_has_to_be_given(metric, monkeypatch):
    monkeypatch.setattr(reference.assets, "networks", lambda metric: ())
    with pytest.raises(MissingAssetError) as caught:
        reference.identities(registry.load("metrics", metric), "", given=None)
    assert str(caught.value) == (
        f"{metric} compares with real samples, and which ones is not known; give them to "
        f"`skipdit evaluate RUN --metrics {metric} --reference PLACE`, a folder or an npz"
    )
    with pytest.raises(MissingAssetError, match=f"no reference of photos for {metric}"):
        reference.identities(registry.load("metrics", metric), "photos", given=None)


def test_of_a_pipeline_metrics_fit_what_a_sample_is():
    """An image or a clip, with its prompt; which real ones are meant is said when it is scored."""
    pipeline = replace(catalog.card("hunyuan-dit"), name="OWNER/NAME", family=PIPELINE)
    images, clips = ({*to_model(replace(pipeline, task=task))} for task in ("t2i", "t2v"))
    both = {"psnr", "ssim", "lpips"}
    of_images = {"fid", "kid", "precision", "recall", "clip-score", "inception-score"}
    assert {*both, *of_images} <= images
    assert {*both, "fvd", "vbench", "fid@frames"} <= clips
    assert not clips & of_images
    assert not images & {"fvd", "vbench"}
    assert not {name for name in images | clips if data_of(name)}
    assert "fid" not in to_model(catalog.card("hunyuan-dit"))  # its protocol is COCO's
