"""A Ray cluster of a head and two nodes of one processor each: the samples are those of one
machine, whatever dies on the way."""

import functools
import importlib
import os
import random
import re
import signal
import sys
import time
from contextlib import contextmanager

import pytest

from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import engine, on_ray
from tests.tiny_pipelines import make

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # what Ray's own modules warn of where they are imported
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
DRIVER = 3  # of the turns at which something is killed: from which on it is the driver, once
STORE = 80 << 20  # bytes of each node's object store
SWEEP = (
    "cache-sweep --model digits-skip --n 2..3 --steps 8 --num-samples 12 --batch-size 2 --repeats 0"
)

WORK = '''
import os, signal, time
from pathlib import Path

def die_twice(folder, batch):
    """The first two workers that are given batch 3 are killed."""
    if batch == [3]:
        died = len(list(Path(folder).glob("died-*")))
        if died < 2:
            Path(folder, f"died-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return stored(folder, batch)

def slow(folder, batch):
    Path(folder, f"begun-{batch[0]}-{os.getpid()}").touch()
    time.sleep(1)
    return stored(folder, batch)

def die(folder, batch):
    os.kill(os.getpid(), signal.SIGKILL)

def stored(folder, batch):
    with Path(folder, "done.txt").open("a") as file:
        file.write(f"{batch[0]}\\n")
    yield batch
'''


@contextmanager
def cluster_of(nodes):
    """A head without processors, and nodes with one each, which the code here is connected to."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'skipdit[ray]'")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.nodes = [
            cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(nodes)
        ]
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine starts a worker late, which would be told."""
    monkeypatch.setattr(engine, "PATIENCE", 600)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A cluster whose nodes stay, and which finds the module of WORK."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "ray_work.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
        patch.syspath_prepend(str(folder))
        with cluster_of(2) as cluster:
            yield cluster


@pytest.fixture
def cluster(lasting, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", lasting.address)
    yield lasting
    importlib.import_module("ray").shutdown()


@pytest.fixture
def doomed(monkeypatch):
    """A cluster whose nodes may be removed."""
    with cluster_of(2) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster


@pytest.fixture
def work(cluster, tmp_path):
    """work("slow") is the function `slow` of WORK, bound to the test's folder."""
    module = importlib.import_module("ray_work")
    return lambda name: functools.partial(getattr(module, name), str(tmp_path))


@pytest.fixture(scope="module")
def local(skipdit, tmp_path_factory, samples):
    """The samples and the table of the same sweep on this machine alone."""
    root = tmp_path_factory.mktemp("local")
    done = skipdit(f"{SWEEP} --results", root).ok()
    return samples(root), rows(done.out)


def rows(printed):
    return [line for line in printed.splitlines() if line.startswith("|")]


def journalled(root):
    """How often each sample stands in a journal."""
    lines = [path.read_text().splitlines() for path in root.glob("samples/*/samples.jsonl")]
    return sorted(len(each) for each in lines)


@pytest.mark.parametrize("shared", ["", "--no-shared-folder"])
def test_a_sweep_of_a_cluster_is_that_of_one_machine(
    skipdit, tmp_path, samples, local, cluster, shared
):
    done = skipdit(f"{SWEEP} --engine ray --workers 2 {shared} --results", tmp_path / "ray").ok()
    assert samples(tmp_path / "ray") == local[0]
    assert rows(done.out) == local[1]
    assert journalled(tmp_path / "ray") == [12, 12, 12]
    assert not list((tmp_path / "ray").glob("samples/*/0*.json"))
    assert not importlib.import_module("ray").is_initialized()  # the next command has room


@pytest.mark.parametrize("shared", ["", "--no-shared-folder"])
def test_a_pipeline_s_samples_are_those_of_one_machine(skipdit, tmp_path, samples, cluster, shared):
    """Each worker loads it; its call, and how its weights are held, go with the run."""
    pipe = make("flux", tmp_path / "flux")
    line = (
        f"cache-sweep --pipeline {pipe} --method fora --n 2 --num-samples 4 --batch-size 2 "
        "--steps 4 --repeats 0 --call height=32 --call width=16 --call max_sequence_length=32"
    )
    prompts = ("--prompt", "a cat", "--prompt", "a red dog")
    alone = skipdit(line, *prompts, "--results", tmp_path / "alone").ok()
    words = f"{line} --engine ray --workers 2 {shared}"
    done = skipdit(words, *prompts, "--results", tmp_path / "ray").ok()
    assert len(samples(tmp_path / "ray")) == 8
    assert samples(tmp_path / "ray") == samples(tmp_path / "alone")
    assert rows(done.out) == rows(alone.out)


def test_what_a_node_had_goes_to_the_other_one(
    skipdit, tmp_path, samples, made, local, doomed, wait_for
):
    root = tmp_path / "ray"
    running = skipdit.start(f"{SWEEP} --engine ray --workers 2 --results", root)
    wait_for(lambda: made(root) > 4 or running.poll() is not None)
    doomed.remove_node(doomed.nodes[0], allow_graceful=False)
    done = skipdit.wait(running).ok()
    assert samples(root) == local[0]
    assert rows(done.out) == local[1]  # and Ray says nothing of it there
    assert done.out.startswith("# digits-skip")
    assert journalled(root) == [12, 12, 12]


def test_a_driver_that_is_killed_comes_back(
    skipdit, tmp_path, samples, made, local, cluster, wait_for
):
    root = tmp_path / "ray"
    command = f"{SWEEP} --engine ray --workers 2 --results"
    running = skipdit.start(command, root)
    wait_for(lambda: made(root) > 4 or running.poll() is not None)
    running.kill()
    running.communicate()
    before = {path: path.stat().st_mtime_ns for path in root.glob("samples/*/*.png")}
    whole = {path for path in before if path.with_suffix(".json").exists()}
    time.sleep(1)
    skipdit(command, root).ok()
    assert samples(root) == local[0]
    assert journalled(root) == [12, 12, 12]
    assert {path for path in whole if path.stat().st_mtime_ns != before[path]} == set()


@pytest.mark.timeout(1200)
def test_nodes_and_drivers_killed_at_random_lose_nothing(
    skipdit, tmp_path, samples, made, doomed, wait_for
):
    """What tests/e2e/test_chaos.py does to workers: here a machine goes and another one comes."""
    chance = random.Random(0)
    root, count = tmp_path / "ray", 4000
    command = f"sample --model digits-skip --batch-size 1 --num-samples {count} --results"
    running, drivers, again = None, 0, 0
    for turn in range(6):
        if running is None:
            running = skipdit.start(command, root, "--engine", "ray", "--workers", "2")
        had = made(root)
        try:
            wait_for(
                lambda had=had, it=running: made(root) > had + 2 or it.poll() is not None,
                seconds=150,
            )
        except AssertionError:  # a busy machine: Ray itself may lose sight of what is left
            running.kill()
        if running.poll() is not None or made(root) <= had + 2:
            running.communicate()
            running, again = None, again + 1
            continue  # as whoever looks after it would: the same command again
        time.sleep(chance.uniform(0, 1))
        if turn >= DRIVER and not drivers:
            running.kill()
            running.communicate()
            running, drivers = None, drivers + 1
            continue
        victim = doomed.nodes.pop(chance.randrange(2))
        doomed.remove_node(victim, allow_graceful=False)
        doomed.nodes.append(doomed.add_node(num_cpus=1, object_store_memory=STORE))
    assert again < 3
    assert drivers == 1
    assert made(root) < count  # so that each of them came in the midst of the work
    if running is not None:
        running.kill()
        running.communicate()
    skipdit(command.replace(str(count), "80"), root, "--workers", "1").ok()
    skipdit(command.replace(str(count), "80"), tmp_path / "local", "--workers", "1").ok()
    assert samples(tmp_path / "local").items() <= samples(root).items()
    assert journalled(root) == [made(root)]


def test_a_task_that_fails_twice_is_done_once(work, tmp_path):
    done = []
    ray = on_ray.connect(2, folder=tmp_path, device="cpu")
    batches = [[i] for i in range(6)]
    engine.run_batches(work("die_twice"), batches, engine=ray, on_done=done.append)
    assert sorted(done) == batches
    assert len(list(tmp_path.glob("died-*"))) == 2
    ray.close()
    assert not (tmp_path / ".seen-by-nodes").exists()


def test_a_task_that_kills_every_worker_fails_in_one_line(work, tmp_path):
    ray = on_ray.connect(1, folder=tmp_path, device="cpu")
    with pytest.raises(SkipditError, match=r"a worker of the Ray cluster died: killed, out of mem"):
        engine.run_batches(work("die"), [[0]], engine=ray)
    ray.close()


def test_a_node_that_does_not_see_the_folder_is_told(work, tmp_path, monkeypatch):
    """Before anything is computed: what it wrote would be lost."""
    ray = on_ray.connect(1, folder=tmp_path / "there", device="cpu")
    monkeypatch.setattr(on_ray.Ray, "mark", lambda self: (tmp_path / "elsewhere" / "x", "token"))
    with pytest.raises(SkipditError, match=r"node .*: it does not see .*elsewhere; name a folder"):
        engine.run_batches(work("slow"), [[0]], engine=ray)
    assert not list(tmp_path.glob("begun-*"))
    ray.close()


def test_a_node_of_other_versions_is_refused(work, tmp_path, monkeypatch):
    ray = on_ray.connect(1, folder=tmp_path, device="cpu")
    other = on_ray.versions() | {"torch": "1.0"}
    monkeypatch.setattr(on_ray, "versions", lambda: other)
    words = r"node .*: it has torch .*, and the driver 1\.0: samples would differ"
    with pytest.raises(SkipditError, match=words):
        engine.run_batches(work("slow"), [[0]], engine=ray)
    ray.close()


def test_ctrl_c_ends_the_workers(skipdit, tmp_path, made, cluster, wait_for):
    import ray

    root = tmp_path / "ray"
    running = skipdit.start(f"{SWEEP} --engine ray --workers 2 --results", root)
    wait_for(lambda: made(root) > 2 or running.poll() is not None)
    running.send_signal(signal.SIGINT)
    done = skipdit.wait(running)
    assert done.code == 130
    assert re.search("interrupted; what was finished is kept", done.err)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    wait_for(lambda: ray.available_resources().get("CPU") == 2, seconds=120)


def test_a_cluster_without_gpus_is_told(cluster):
    with pytest.raises(SkipditError, match="the Ray cluster has no GPU"):
        on_ray.connect(None, folder=None, device="cuda")
    assert on_ray.connect(None, folder=None, device="cpu").workers == 2
