"""Array jobs of a real Slurm: the samples are those of one machine, whatever is cut off."""

import importlib.util
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "slurm_of_tests", Path(__file__).with_name("slurm.py")
)
slurms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slurms)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SWEEP = "cache-sweep --model digits-skip --n 2 --steps 8 --num-samples 8 --batch-size 4 --repeats 0"


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    """What is to be set for sbatch to be found."""
    pytest.importorskip(
        "submitit", reason="submitit is not installed: pip install 'skipdit[slurm]'"
    )
    try:
        with slurms.slurm(tmp_path_factory.mktemp("slurm")) as environment:
            yield environment
    except slurms.AbsentError as why:
        pytest.skip(f"no Slurm can be started here: {why}")


@pytest.fixture
def there(queue, monkeypatch):
    for name in ("PATH", "LD_LIBRARY_PATH", "SLURM_CONF"):
        if name in queue:
            monkeypatch.setenv(name, queue[name])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a node has one processor
    yield (
        lambda *command: subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    subprocess.run(["scancel", "--user", slurms._user()], check=False)


@pytest.fixture(scope="module")
def local(skipdit, tmp_path_factory, samples):
    """The samples and the table of the same sweep on this machine alone."""
    root = tmp_path_factory.mktemp("local")
    done = skipdit(f"{SWEEP} --results", root).ok()
    return samples(root), rows(done.out)


def rows(printed):
    return [line for line in printed.splitlines() if line.startswith("|")]


def restarts(there):
    """How often each job was put in the queue again, of those that were."""
    told = there("scontrol", "--oneliner", "show", "job")
    job = r"JobId=(\d+) (?:ArrayJobId=(\d+) ArrayTaskId=(\d+) )?.*Restarts=(\d+)"
    found = re.findall(job, told)
    return {f"{array}_{task}" if array else job: n for job, array, task, n in found if n != "0"}


def start(skipdit, root, *more):
    return skipdit.start(f"{SWEEP} --engine slurm --workers 2", "--results", root, *more)


def test_a_sweep_by_array_jobs_is_that_of_one_machine(
    skipdit, tmp_path, samples, local, there, wait_for
):
    root = tmp_path / "queue"
    done = skipdit.wait(start(skipdit, root, "--slurm", "time=7")).ok()
    assert samples(root) == local[0]
    assert rows(done.out) == local[1]
    assert not (root / "slurm").exists()
    wait_for(lambda: there("squeue", "--noheader") == "", every=0.5)  # they end as they are told


def test_a_driver_that_comes_back_waits_for_the_jobs_of_the_first(
    skipdit, tmp_path, samples, made, there, wait_for
):
    given = "sample --model digits-skip --num-samples 40 --batch-size 2 --results"
    root, whole = tmp_path / "queue", tmp_path / "whole"
    first = skipdit.start(given, root, "--engine", "slurm", "--workers", "2")
    wait_for(lambda: made(root) or first.poll() is not None)
    first.kill()
    first.communicate()
    (known,) = (json.loads(path.read_text()) for path in root.glob("slurm/*/jobs.json"))
    second = skipdit.start(given, root, "--engine", "slurm", "--workers", "2")
    arrays = set()

    def ended():
        arrays.update(there("squeue", "--noheader", "--format", "%F").split())
        return second.poll() is not None

    wait_for(ended, seconds=400, every=0.2)
    skipdit.wait(second).ok()
    assert arrays <= {known["array"]}  # nothing was submitted again
    skipdit(given, whole).ok()
    assert samples(root) == samples(whole)


def test_jobs_that_are_killed_are_submitted_again(
    skipdit, tmp_path, samples, made, local, there, wait_for
):
    root = tmp_path / "queue"
    running = start(skipdit, root)
    wait_for(lambda: made(root) or running.poll() is not None)
    there("scancel", "--user", slurms._user())
    skipdit.wait(running, seconds=400).ok()
    assert samples(root) == local[0]


def test_a_job_that_is_cut_off_goes_on_in_the_next(
    skipdit, tmp_path, samples, made, there, wait_for
):
    """By the signal that Slurm sends it before its time is up; the queue itself starts it again."""
    given = "sample --model digits-skip --num-samples 40 --batch-size 2 --results"
    root, whole = tmp_path / "queue", tmp_path / "whole"
    running = skipdit.start(given, root, "--engine", "slurm", "--workers", "1")
    wait_for(lambda: made(root) or running.poll() is not None)
    at_work = there("squeue", "--noheader", "--states", "RUNNING", "--format", "%i").split()
    subprocess.run(["scancel", "--signal", "USR2", *at_work], check=False)  # it waits in vain
    wait_for(lambda: restarts(there) == dict.fromkeys(at_work, "1"), every=0.5)
    skipdit.wait(running, seconds=400).ok()
    skipdit(given, whole).ok()
    assert samples(root) == samples(whole)


def test_after_ctrl_c_the_jobs_are_named(skipdit, tmp_path, there, wait_for):
    root = tmp_path / "queue"
    running = start(skipdit, root)
    wait_for(lambda: list(root.glob("slurm/*/jobs.json")))
    (known,) = (json.loads(path.read_text()) for path in root.glob("slurm/*/jobs.json"))
    running.send_signal(signal.SIGINT)
    done = skipdit.wait(running)
    assert done.code == 130
    array = known["array"]
    words = (
        f"jobs {array} are still in the queue; the same command waits for them, `scancel {array}`"
    )
    assert words in done.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("partition=nowhere", "--engine slurm: sbatch refused the jobs: .*nvalid partition"),
        ("colour=red", "--slurm: .*colour"),
    ],
)
def test_settings_that_sbatch_does_not_know_are_told(skipdit, tmp_path, there, given, words):
    done = skipdit.wait(start(skipdit, tmp_path / "queue", "--slurm", given))
    assert done.code == 2
    (line,) = done.remarks
    assert re.search(words, line), line
