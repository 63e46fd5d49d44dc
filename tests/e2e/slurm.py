"""A Slurm of this machine alone: a controller and two nodes of one processor each, for tests.

Its programs are those that are installed, or Debian's packages, unpacked beside the test.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = (
    "slurm-client",
    "slurmctld",
    "slurmd",
    "slurm-wlm-basic-plugins",
    "libhwloc15",
)
LIBRARIES = "usr/lib/x86_64-linux-gnu"
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/control
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/node-%n.pid
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/node-%n.log
{plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
SchedulerParameters=sched_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=1 State=UNKNOWN
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class AbsentError(Exception):
    """Why there is no Slurm here."""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which sbatch and the like find a Slurm that runs meanwhile.

    Raises:
        AbsentError: it cannot be had, or does not start.
    """
    environment, programs, plugins = _programs(folder)
    ports = _free_ports(4)
    conf = CONF.format(
        host=socket.gethostname(),
        user=_user(),
        folder=folder,
        plugins=f"PluginDir={plugins}" if plugins else "",
        ports=ports,
    )
    for name in ("control", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(conf)
    environment["SLURM_CONF"] = str(folder / "slurm.conf")
    stepd = ["-d", programs["slurmstepd"]] if plugins else []
    try:
        _start([programs["slurmctld"], "-c"], environment)
        for node in ("n1", "n2"):
            _start([programs["slurmd"], "-N", node, *stepd], environment)
        _await_nodes(environment, folder)
        yield environment
    finally:
        _stop(folder, environment)


def _programs(folder: Path) -> tuple[dict[str, str], dict[str, str], Path | None]:
    """Environment, daemons by name, and where plugins are if not at the usual place."""
    names = ("slurmctld", "slurmd", "slurmstepd")
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    if all(shutil.which(name, path=path) for name in (*names, "sbatch", "squeue")):
        return (
            {**os.environ, "PATH": path},
            {n: shutil.which(n, path=path) or n for n in names},
            None,
        )
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise AbsentError("Slurm is not installed, and there is no apt-get to fetch it with")
    fetched, unpacked = folder / "packages", folder / "unpacked"
    fetched.mkdir()
    done = _run(["apt-get", "download", *PACKAGES], cwd=fetched, timeout=120)
    if done.returncode:
        raise AbsentError(f"its packages cannot be fetched: {done.stderr.strip()[-200:]}")
    for package in fetched.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], timeout=60)
    libraries = unpacked / LIBRARIES
    plugins = libraries / "slurm-wlm"
    environment = {
        **os.environ,
        "PATH": f"{unpacked}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{plugins}:{libraries}",
    }
    return environment, {n: f"{unpacked}/usr/sbin/{n}-wlm" for n in names}, plugins


def _run(command: list[str], **how: object) -> subprocess.CompletedProcess:
    return subprocess.run(command, check=False, capture_output=True, text=True, **how)


def _start(command: list[str], environment: dict[str, str]) -> None:
    try:
        done = _run(command, env=environment, timeout=60)
    except OSError as error:
        raise AbsentError(str(error)) from None
    if done.returncode:
        raise AbsentError(f"{Path(command[0]).name} does not start: {done.stderr.strip()[-200:]}")


def _await_nodes(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        done = _run(["sinfo", "--noheader", "--format", "%T"], env=environment, timeout=60)
        if done.stdout.split() == ["idle"]:
            return
        time.sleep(1)
    raise AbsentError(f"its nodes do not come up: {(folder / 'control.log').read_text()[-300:]}")


def _stop(folder: Path, environment: dict[str, str]) -> None:
    _run(["scancel", "--user", _user()], env=environment, timeout=60)
    for path in folder.glob("*.pid"):
        try:
            os.kill(int(path.read_text()), signal.SIGTERM)
        except (OSError, ValueError):
            continue


def _user() -> str:
    return getpass.getuser()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
