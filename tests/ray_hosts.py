"""Two hosts on one machine, each with a network of its own and a node of a Ray cluster.

A host is a network namespace (ip-netns(8)); a pair of virtual interfaces joins the two. Processes in them see
nothing of the network of this machine. Their files are those of this machine, as on shared storage.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
ADDRESSES = {"head": "10.213.7.1", "other": "10.213.7.2"}
PORT = 6379
MEMORY = 200_000_000
"""Of the object store of a node, in bytes."""


@dataclass(frozen=True)
class Hosts:
    """The two hosts ``head`` and ``other``, on which a cluster runs."""

    folder: Path
    names: dict[str, str]
    surroundings: dict[str, str]
    pinned: bool = False
    """Whether each host has one core of this machine, for all that runs on it."""

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{ADDRESSES['head']}:{PORT}"

    def start(self, host: str, *command: str, **changed: str) -> subprocess.Popen[str]:
        """Start a command on a host; what it prints is in ``stdout``.

        It does not see the nodes of other hosts: Ray looks for its own among all processes, and takes the head's.
        """
        others = [
            pid
            for other in self.names
            if other != host
            for pid in self.pids(other)
            if b"/raylet/raylet" in _command_of(pid)
        ]
        if others:
            mounts = " && ".join(f"mount -t tmpfs none /proc/{pid}" for pid in others)
            command = ("sh", "-c", f'{mounts} && exec "$@"', "sh", *command)
        core = ["taskset", "--cpu-list", str(list(ADDRESSES).index(host))] if self.pinned else []
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *core, *command],
            env=self.surroundings | changed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, host: str, *command: str, seconds: float = 600, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end."""
        process = self.start(host, *command, **changed)
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
            raise AssertionError(f"{command} took more than {seconds} s:\n{printed[-4000:]}") from None
        return subprocess.CompletedProcess(command, process.returncode, printed)

    def start_ray(self, host: str, cores: int = 1, *, hide: Path | None = None, **changed: str) -> None:
        """Start the node of a host, and wait for it; ``hide`` is a folder whose files it does not see."""
        where = ["--head", f"--port={PORT}", f"--temp-dir={self.folder}/ray", "--include-dashboard=false"]
        where = where if host == "head" else [f"--address={self.address}"]
        options = [f"--node-ip-address={ADDRESSES[host]}", f"--num-cpus={cores}", f"--object-store-memory={MEMORY}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *options]
        if hide is not None:
            mount = f'mount --make-rprivate / && mount -t tmpfs none {hide} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        done = self.run(host, *command, **changed)
        assert done.returncode == 0, done.stdout[-4000:]

    def pids(self, host: str) -> list[int]:
        """List the processes of a host."""
        listed = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def works(self, host: str) -> bool:
        """Whether a worker of Ray Data is at work on a host."""
        return any(b"MapWorker" in _command_of(pid) for pid in self.pids(host))

    def kill(self, host: str) -> None:
        """End every process of a host at once, as a power cut does."""
        for _ in range(50):
            pids = self.pids(host)
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)


def why_not() -> str:
    """Say why there can be no hosts here; empty where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip is not installed"
    if find_spec("ray") is None:
        return "Ray is not installed"
    name = f"crack{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "no network namespace can be made here"
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return ""


@contextmanager
def two_hosts(cores: int = 1, nodes: tuple[str, ...] = ("head", "other"), *, pinned: bool = False) -> Iterator[Hosts]:
    """Make two hosts and start a cluster on them, with a token of its own; all of it goes afterwards.

    Parameters
    ----------
    cores
        Of each node.
    nodes
        Hosts that are part of the cluster.
    pinned
        Whether a host has one core of this machine, and no other: for measurements.
    """
    own = secrets.token_hex(4)
    names = {host: f"crack{own}{host}" for host in ADDRESSES}
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rh"))  # short, since Ray puts sockets below it
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "token").write_text(secrets.token_hex(32))
        (folder / "token").chmod(0o600)
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "HOME": str(folder),
            "PYTHONPATH": f"{SOURCE}:{Path(__file__).parent}",
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # it would end workers for what else takes this machine's memory
        }
        hosts = Hosts(folder, names, surroundings, pinned)
        for host, name in names.items():
            _ip("netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            stack.callback(hosts.kill, host)
        ends = [f"v{own}{end}" for end in "ab"]
        _ip("link", "add", ends[0], "netns", names["head"], "type", "veth", "peer", ends[1], "netns", names["other"])
        for end, (host, address) in zip(ends, ADDRESSES.items(), strict=True):
            _ip("-n", names[host], "addr", "add", f"{address}/24", "dev", end)
            for link in ("lo", end):
                _ip("-n", names[host], "link", "set", link, "up")
        for host in nodes:
            hosts.start_ray(host, cores)
        yield hosts


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
