"""`skipdit download --pipeline OWNER/NAME` from the hub of conftest.py, and what it is good for."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
from safetensors.numpy import load, save

from tests.tiny_pipelines import make

NAME = "someone/flux"
FEW = "--steps 4 --call height=32 --call width=16 --call max_sequence_length=32"
PLAN = f"plan --pipeline {NAME} --method fora --n 2 {FEW}"
BESIDE = {
    "README.md": b"# Flux",
    "flux.safetensors": b"w" * 999,
    "text_encoder/model.fp16.safetensors": b"w" * 999,
    "transformer/other.pt": b"?",
}
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory):
    """The files of a pipeline of random weights, by their paths."""
    folder = make("flux", tmp_path_factory.mktemp("pipelines") / "flux")
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def repository(hub, saved_pipeline):
    hub.repositories[NAME] = {**saved_pipeline, **BESIDE}
    return hub.repositories[NAME]


@pytest.fixture
def get(skipdit):
    """get(more arguments) runs the download of the pipeline."""
    return lambda *more: skipdit("download", "--pipeline", NAME, *more)


def fetched(hub):
    """The paths in the repository of the files whose content was sent."""
    return {path.split(f"/{hub.COMMIT}/")[1] for path in hub.sent if hub.COMMIT in path}


def test_of_configurations_alone_a_plan_is_made(hub, repository, get, skipdit, table):
    absent = skipdit(PLAN)
    absent.failed(4, f"the pipeline {NAME} is not here", f"`skipdit download --pipeline {NAME}`")
    done = get("--configs")
    name, folder = done.out.split()
    assert (done.code, name) == (0, NAME), done
    assert f"{NAME}: 0.0 MB to fetch, licence mit" in done.err
    assert (Path(folder) / "model_index.json").is_file()
    assert {Path(path).suffix for path in fetched(hub)} == {".json"}
    rows = table(skipdit(PLAN).ok().out)
    assert [row["run"] for row in rows] == ["none", "fora(n=2,mlp=true)"]
    assert "weights" in rows[0]["missing"]
    sample = skipdit(f"sample --pipeline {NAME} --num-samples 1 {FEW}", "--prompt", "cat")
    sample.failed(4, "weights", NAME, f"skipdit download --pipeline {NAME}")


def test_a_sweep_of_what_was_fetched(hub, repository, get, skipdit, table):
    get("--configs")
    hub.forget()
    done = get()
    assert done.code == 0, done
    weights = {path for path in repository if path.endswith(".safetensors") and "/" in path}
    assert fetched(hub) == weights - BESIDE.keys()
    hub.forget()
    assert (get().out, fetched(hub)) == (done.out, set())
    hub.forget()
    line = f"cache-sweep --pipeline {NAME} --method fora --n 2 --num-samples 1 --repeats 0 {FEW}"
    rows = table(skipdit(line, "--prompt", "a cat").ok().out)
    assert [row["cache"] for row in rows] == ["no cache (n=1)", "fora n=2"]
    assert hub.requests == []


def test_it_lies_in_the_hub_s_cache_as_the_hub_s_own_tool_puts_it(
    hub, repository, get, monkeypatch
):
    """Both ways: what that fetched is not fetched again."""
    hf_hub_download(NAME, WEIGHTS, revision=hub.COMMIT)
    hub.forget()
    folder = Path(get().out.split()[1])
    assert WEIGHTS not in fetched(hub)
    (repo,) = scan_cache_dir(constants.HF_HUB_CACHE).repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash) == (NAME, hub.COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Path(snapshot_download(NAME)) == folder
    for path in folder.rglob("*.safetensors"):
        assert path.read_bytes() == repository[str(path.relative_to(folder))]
    hub.forget()
    again = get()
    assert (again.code, Path(again.out.split()[1]), hub.requests) == (0, folder, [])
    assert "HF_HUB_OFFLINE is set; taking what is in the cache" in again.err


def test_a_transfer_goes_on_where_it_stopped_and_nothing_is_there_before_it_ends(
    hub, repository, get, skipdit, failed, table
):
    hub.cut = 50_500
    failed(get(), 4, "broke off after 50000 of", "goes on from there")
    skipdit(PLAN).failed(4, f"the pipeline {NAME} is not here")
    ((broken, _),) = [(path, sent) for path, sent in hub.sent.items() if sent == hub.cut]
    hub.cut = None
    hub.forget()
    states = [row["state"] for row in table(get("--dry-run").out)]
    assert states.count("resume") == 1
    assert get().code == 0
    content = repository[broken.split(f"/{hub.COMMIT}/")[1]]
    assert hub.sent[broken] == len(content) - 50_000
    skipdit(PLAN).ok()


def test_a_shard_that_is_not_here_yet_is_no_weights(hub, repository, get, skipdit, failed):
    """Of a download that broke off after that of the configurations."""
    tensors = load(repository.pop(WEIGHTS))
    names, halves = sorted(tensors), {}
    for i, half in enumerate((names[::2], names[1::2]), 1):
        halves[f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"] = half
    index = {
        "metadata": {},
        "weight_map": {key: name for name, half in halves.items() for key in half},
    }
    repository[f"{WEIGHTS}.index.json"] = json.dumps(index).encode()
    for name, half in halves.items():
        repository[f"transformer/{name}"] = save({key: tensors[key] for key in half})
    get("--configs")
    last = f"transformer/{[*halves][1]}"
    hub.lies[last] = b"?" + repository[last][1:]
    failed(get(), 4, f"{NAME}/{last} is damaged: its sha256 is", "it was deleted")
    sample = f"sample --pipeline {NAME} --num-samples 1 {FEW}"
    skipdit(sample, "--prompt", "cat").failed(4, "weights", f"download --pipeline {NAME}")
    hub.lies.clear()
    folder = Path(get().out.split()[1])
    (folder / last).unlink()
    skipdit(sample, "--prompt", "cat").failed(4, "weights", f"download --pipeline {NAME}")
    hub.forget()
    assert (get().code, fetched(hub)) == (0, set())  # its content is here
    skipdit(sample, "--prompt", "cat").ok()


def test_a_dry_run_tells_the_files(hub, repository, get, skipdit, table):
    done = get("--dry-run")
    rows = {row["file"]: row for row in table(done.out)}
    row = rows[f"{NAME}/{WEIGHTS}"]
    assert (row["part"], row["state"], row["licence"]) == ("transformer", "fetch", "mit")
    assert row["target"].startswith("models--someone--flux/blobs/")
    assert done.out.splitlines()[-1].endswith(f"all under {constants.HF_HUB_CACHE}")
    assert fetched(hub) == {"model_index.json"}
    skipdit(PLAN).failed(4, f"the pipeline {NAME} is not here")


def test_too_little_space_is_known_before(hub, repository, get, monkeypatch, failed):
    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr("skipdit_cli.checkpoints.download.shutil.disk_usage", lambda path: usage)
    failed(get(), 1, "needs ", "0.1 MB (100000 bytes) are free", "HF_HOME")
    assert fetched(hub) == {"model_index.json"}


def test_what_is_not_there(hub, repository, get, skipdit, failed):
    done = skipdit("download --pipeline someone/none")
    done.failed(4, "cannot fetch someone/none: there is no such repository")
    assert "--from" not in done.err
    hub.find = lambda path: None  # it is listed, and not served
    done = get()
    failed(done, 4, f"cannot fetch {NAME}/model_index.json", "check the network")
    assert "--from" not in done.err


def test_what_cannot_be_a_pipeline_of_ours(hub, repository, get, failed):
    said = json.loads(repository["model_index.json"])
    own = json.dumps(said | {"transformer": ["my_code", "Mine"]}).encode()
    repository["model_index.json"] = own
    failed(get(), 2, "my_code", "is not run")
    repository["model_index.json"] = json.dumps(said | {"vae_2": ["diffusers", "A"]}).encode()
    failed(get(), 4, f"{NAME}, vae_2: there is no such folder")
    del repository["model_index.json"]
    get().failed(2, f"{NAME} has no model_index.json")
    get("--delete-originals").failed(2, "--delete-originals", "is not for a pipeline")
