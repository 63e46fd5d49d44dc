"""Provenance: the checkout, versions and command, without a path of this machine."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

import skipdit_cli
from skipdit_cli.storage import provenance


@pytest.fixture(autouse=True)
def forget():
    """What is read once per process is read again."""
    provenance._checkout.cache_clear()
    provenance._versions.cache_clear()
    yield
    provenance._checkout.cache_clear()
    provenance._versions.cache_clear()


def git(folder, *arguments):
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a package of one file, taken for ours."""
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "_FOLDER", package)
    return package


def test_a_clean_checkout(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    found = provenance.collect()
    assert len(head) == 40
    assert (found["commit"], found["dirty"]) == (head, False)


@pytest.mark.parametrize("name", ["__init__.py", "new_cache.py"])
def test_a_changed_or_new_file_of_the_package_makes_it_dirty(checkout, name):
    (checkout / name).write_text("changed = 1")
    assert provenance.collect()["dirty"] is True


def test_results_beside_the_package_do_not(checkout):
    (checkout.parent / "results.csv").write_text("1")
    assert provenance.collect()["dirty"] is False


def test_a_package_installed_inside_someone_elses_repository(checkout, monkeypatch):
    installed = checkout / "venv" / "site-packages" / "package"
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_FOLDER", installed)
    found = provenance.collect()
    assert (found["commit"], found["dirty"]) == (None, None)


@pytest.mark.parametrize("how", ["no git", "no commit yet"])
def test_git_that_does_not_answer(checkout, monkeypatch, tmp_path, how):
    if how == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        git(checkout, "update-ref", "-d", "HEAD")
    assert provenance.collect()["commit"] is None


def test_versions_and_settings_are_those_of_this_process():
    found = provenance.collect()
    assert found["skipdit"] == skipdit_cli.__version__
    assert found["python"] == platform.python_version()
    assert found["numpy"] == numpy.__version__
    assert found["torch"] == metadata.version("torch")
    assert found["tf32_matmul"] is torch.backends.cuda.matmul.allow_tf32
    assert found["tf32_cudnn"] is torch.backends.cudnn.allow_tf32
    assert found["threads"] == torch.get_num_threads()
    assert found["device"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["time"])).total_seconds()) < 60


def test_settings_follow_torch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some GPU, {device}")
    assert provenance.collect()["device"] == "Some GPU, cuda"


def test_the_device_is_the_one_that_is_named(monkeypatch):
    """A process may use a GPU and yet have computed something on its processor."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some GPU, {device}")
    assert provenance.collect(device="cuda:1")["device"] == "Some GPU, cuda:1"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert provenance.collect(device="cpu")["device"] == provenance._processor()


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_flags_are_told_apart(wanted):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        backends[0].allow_tf32, backends[1].allow_tf32 = wanted, not wanted
        found = provenance.collect()
    finally:
        for backend, flag in zip(backends, before, strict=True):
            backend.allow_tf32 = flag
    assert (found["tf32_matmul"], found["tf32_cudnn"]) == (wanted, not wanted)


def test_a_flag_torch_refuses_to_read():
    class Mixed:
        @property
        def allow_tf32(self):
            raise RuntimeError("mix of the legacy and new APIs")

    assert provenance._tf32(Mixed()) is None
    assert provenance._tf32(SimpleNamespace(allow_tf32=False)) is False


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package", "numpy"))
    found = provenance.collect()
    assert found["no-such-package"] is None
    assert found["numpy"] == numpy.__version__


def test_torch_is_asked_only_if_imported_or_wanted():
    code = """if True:
        import json, sys
        from skipdit_cli.storage import provenance
        plain = provenance.collect()
        early = "torch" in sys.modules
        asked = provenance.collect(import_torch=True)
        print(json.dumps([early, plain, asked]))
    """
    root = Path(skipdit_cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    early, plain, asked = json.loads(done.stdout)
    assert not early
    assert (plain["tf32_matmul"], plain["threads"]) == (None, None)
    assert plain["device"] == provenance._processor()
    assert plain["torch"] == metadata.version("torch")  # its version is known without it
    assert asked["tf32_matmul"] is False
    assert plain.keys() == asked.keys()


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/home/me/bin/skipdit", "ls"], "skipdit ls"),
        (["x", "report", "--out", "/home/me/runs"], "skipdit report --out runs"),
        (["x", "--out=/home/me/runs/"], "skipdit --out=runs/"),
        (["x", "a=/home/me/a,/home/me/b"], "skipdit a=a,b"),
        (["x", "file:///home/me/r.yaml"], "skipdit file:r.yaml"),
        (["x", "--prompt", "http://evil"], "skipdit --prompt http://evil"),
        (["x", "--prompt", "/a/b: /c/d"], "skipdit --prompt '/a/b: /c/d'"),
        (["x", "--prompt=/a/b"], "skipdit --prompt=/a/b"),
        (["x", "--negative-prompt", "/a/b"], "skipdit --negative-prompt /a/b"),
        (["x", "--set", "negative_prompt=/a/b"], "skipdit --set negative_prompt=/a/b"),
        (["x", "--set=negative_prompt=@/a/b"], "skipdit --set=negative_prompt=@/a/b"),
        (["x", "--prompts", "/home/me/a.txt"], "skipdit --prompts a.txt"),
        (["x", "--set", "prompts=/home/me/a.txt"], "skipdit --set prompts=a.txt"),
        (["x", "--from", "https://host/a/b.pt"], "skipdit --from https://host/a/b.pt"),
        (["x", "--out", "a\udcff"], "skipdit --out 'a\\udcff'"),
        (["x", "--recipe", "recipes/table1.yaml"], "skipdit --recipe recipes/table1.yaml"),
        (["x", "../table1.yaml", "DiT-XL/2"], "skipdit ../table1.yaml DiT-XL/2"),
        (["x", "skip-cache(n=2,window=700-50)"], "skipdit 'skip-cache(n=2,window=700-50)'"),
        ([], "skipdit"),
    ],
)
def test_the_command_without_the_machines_paths(argv, command):
    assert provenance.command_line(argv) == command


def test_it_says_nothing_of_where_it_ran(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [f"{tmp_path}/skipdit", f"--out={tmp_path}/results"])
    text = json.dumps(provenance.collect())
    for place in (tmp_path, Path.cwd(), Path.home()):
        assert f"{place}/" not in text
    assert '"command": "skipdit --out=results"' in text
