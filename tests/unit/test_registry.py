"""The folder listing is the registry; names and summaries cost no import."""

import json
import subprocess
import sys

import pytest

from skipdit_cli import registry
from skipdit_cli.caches import skip_cache
from skipdit_cli.errors import UsageError

EXPECTED = {
    "models": {"dit", "latte"},
    "caches": {"none", "skip-cache"},
    "samplers": {"ddim", "ddpm"},
    "metrics": {"psnr", "ssim", "fid@digits", "fvd@digits", "accuracy@digits"},
}


def test_names_are_file_names():
    for kind, names in EXPECTED.items():
        assert names <= set(registry.names(kind))
        assert registry.names(kind) == sorted(registry.names(kind))
        assert not any(name.startswith("_") for name in registry.names(kind))


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in EXPECTED for n in registry.names(k)])
def test_a_name_leads_to_its_file_and_the_summary_is_its_first_line(kind, name):
    module = registry.load(kind, name)
    assert registry.summary(kind, name) == module.module.__doc__.split("\n")[0]
    assert 10 < len(registry.summary(kind, name)) < 100
    assert module.module.__name__ == f"skipdit_cli.{kind}." + name.replace("@", "_at_").replace(
        "-", "_"
    )


def test_no_two_metrics_or_parts_of_them_are_called_the_same():
    names = registry.names("metrics")
    names += [f"vbench.{part}" for part in registry.load("metrics", "vbench").PARTS]
    labels = [registry.label(name) for name in names]
    assert len(set(labels)) == len(labels) > 40
    told = registry.label("vbench.temporal_flickering"), registry.label("psnr@videosys")
    assert told == ("VBench temporal flickering", registry.load("metrics", "psnr@videosys").LABEL)


def test_one_module_object_however_often_it_is_loaded():
    assert registry.load("caches", "skip-cache") is registry.load("caches", "skip-cache")
    assert registry.load("caches", "skip-cache").module is skip_cache


def test_a_new_file_is_a_new_name(tmp_path, monkeypatch):
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches" / "new_method.py").write_text('"""A new method.\n\nMore."""\n1 / 0\n')
    (tmp_path / "caches" / "_shared.py").write_text("")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "new_family.py").write_text("# no docstring\n")
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    assert registry.names("caches") == ["new-method"]
    assert registry.summary("caches", "new-method") == "A new method."  # the file is not run
    assert registry.names("models") == ["new_family"]  # families are diffusers-style identifiers
    assert registry.summary("models", "new_family") == ""


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("caches", "skip-cach", "unknown cache 'skip-cach'; did you mean 'skip-cache'?"),
        ("caches", "skip_cache", "unknown cache 'skip_cache'; did you mean 'skip-cache'?"),
        ("models", "Latte", "unknown model 'Latte'; did you mean 'latte'?"),
        ("samplers", "dpm", "unknown sampler 'dpm'; did you mean 'ddpm'?"),
        ("metrics", "pnsr", "unknown metric 'pnsr'; did you mean 'psnr'?"),
        ("caches", "../errors", "unknown cache '../errors'; known: "),
        ("caches", "_shared", "unknown cache '_shared'; known: "),
    ],
)
def test_unknown_names_name_the_nearest(kind, name, message):
    with pytest.raises(UsageError) as caught:
        registry.load(kind, name, place="--x")
    assert str(caught.value).startswith(f"--x: {message}")
    if message.endswith("known: "):
        assert str(caught.value) == f"--x: {message}{', '.join(registry.names(kind))}"


def test_listing_imports_no_method_and_nothing_heavy():
    code = f"""
import json, sys
from skipdit_cli import registry
lines = {{f"{{kind}} {{name}}": registry.summary(kind, name)
         for kind in {list(EXPECTED)} for name in registry.names(kind)}}
print(json.dumps([lines, sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines, modules = json.loads(done.stdout)
    assert lines["caches skip-cache"].startswith("Skip-Cache: ")
    ours = {name for name in modules if name.startswith("skipdit_cli")}
    light = {"_torchvision", "contract", "errors", "registry"}
    assert ours == {"skipdit_cli", *(f"skipdit_cli.{name}" for name in light)}
    assert not {"torch", "diffusers", "numpy", "pandas", "matplotlib"} & set(modules)
