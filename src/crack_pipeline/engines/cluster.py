"""The Ray cluster that a run works on: joined, looked at and, where something is wrong, refused before any work.

Ray is imported where it is used, since nothing else needs it to be installed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from crack_pipeline.engines.compute import Compute, Plan, resolve

logger = logging.getLogger(__name__)

R = TypeVar("R")

_MODE, _LOG_LEVEL = "RAY_AUTH_MODE", "RAY_BACKEND_LOG_LEVEL"
_JOIN = """
import json, os, sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
except BaseException as error:
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    says = " | ".join(f"{type(one).__name__}: {one}" for one in chain)
    print(json.dumps({"kind": type(error).__name__, "says": says}))
else:
    print(json.dumps({"kind": ""}))
sys.stdout.flush()
os._exit(0)
"""
"""Joins a cluster and says how that went: Ray itself tries for minutes, or ends the process, if none answers."""


_NO_TOKEN = ("AuthenticationError", "InvalidAuthToken", "Unauthenticated")


class Ticket(Protocol):
    """What must be possible on every node; it can be pickled."""

    @property
    def name(self) -> str:
        """What it is about, for people, such as a folder."""

    def open(self) -> None:
        """Get it ready, where the run is started; raises OSError."""

    def use(self, node: str) -> None:
        """Try it on a node, whose name can be part of a file's; raises OSError."""

    def close(self, nodes: Sequence[str]) -> list[str]:
        """Clear up, where the run was started; gives the nodes whose try had no effect there."""


class About(NamedTuple):
    """What a node runs."""

    ray: str
    python: str
    package: str
    code: str
    """Hash of the package's source files; empty where it is not installed."""


def join(compute: Compute | Plan) -> None:
    """Join the cluster of a run, or start one on this machine, and look whether all nodes run what this one runs.

    Ray's token authentication is switched on, unless ``RAY_AUTH_MODE`` says otherwise. Where this process has joined
    one already, nothing is done.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed; the message says how to install it.
    ConnectionError
        If nothing answers in time, what answers is no Ray, the token is another one, or this machine is not part of
        the cluster.
    RuntimeError
        If the cluster, or a node of it, runs another version of Ray, Python or this package.
    """
    require_ray()
    os.environ.setdefault(_MODE, "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of Ray's own statistics, of which nothing depends
    import ray
    from ray._private import worker

    # Ray's own tells the cluster's head first, for a page of Ray, and waits for it where it is lost
    if sys.excepthook is worker.custom_excepthook:
        sys.excepthook = worker.normal_excepthook
    if ray.is_initialized():
        return
    address = compute.address or os.environ.get("RAY_ADDRESS")
    if address not in (None, "local"):
        _try(str(address), compute.patience)
    os.environ.setdefault(_LOG_LEVEL, "fatal")  # it calls an error of each actor what cannot be helped
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.WARNING,
        configure_logging=True,
        **({} if address not in (None, "local") else {"include_dashboard": False}),  # of what is started here
    )
    try:
        nodes = compare_nodes(compute.patience)
    except BaseException:
        ray.shutdown()
        raise
    have = ray.cluster_resources()
    logger.info(
        "Ray %s: %s nodes, %g cores, %g GPUs%s",
        ray.__version__,
        len(nodes),
        have.get("CPU", 0),
        have.get("GPU", 0),
        "" if os.environ[_MODE] == "token" else "; token authentication is switched off: see docs/ray.md",
    )


def require_ray() -> None:
    """Raise ModuleNotFoundError, with what to do, if Ray is not installed."""
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            "compute.engine is ray, and Ray is not installed: install it with pip install 'crack-pipeline[ray]', "
            "or take compute.engine=local"
        )


def resolve_there(compute: Compute) -> Plan:
    """Let a worker of the cluster choose what ``compute`` leaves open, as `engines.compute.resolve` does here.

    All workers then work by the plan of one, so that they give the same numbers.

    Raises
    ------
    ValueError
        As `engines.compute.resolve` does, or if no node has what a worker needs.
    """
    join(compute)
    import ray

    cores = 1.0 if compute.cores == "auto" else compute.cores
    gpus = compute.gpus
    if gpus == "auto":
        wanted = compute.accelerator in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0
        gpus = 1.0 if wanted else 0.0
    _check_room(cores, gpus)
    asked = compute.model_copy(update={"cores": cores, "gpus": gpus})
    remote = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=3)(resolve)
    try:
        plan: Plan = ray.get(remote.remote(asked), timeout=10 * compute.patience)
    except ray.exceptions.GetTimeoutError:
        raise ConnectionError(
            f"no worker of {cores:g} cores and {gpus:g} GPUs was free within {10 * compute.patience:g} s: does "
            "something else use the cluster?"
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from None
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"no worker of the Ray cluster stays: {str(error).strip().splitlines()[-1]}") from None
    return _with_devices(plan, compute)


def room(cores: float, gpus: float) -> int:
    """Count the workers of so many cores and GPUs that the nodes of the cluster have room for, busy or not."""
    leaving = _leaving()
    return sum(
        int(min(has.get(name, 0) / wanted for name, wanted in (("CPU", cores), ("GPU", gpus)) if wanted))
        for has in (node["Resources"] for node in _alive() if node["NodeID"] not in leaving)
    )


def head_answers(seconds: float) -> bool:
    """Whether something still listens where the cluster's head was."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True


def _with_devices(plan: Plan, compute: Compute) -> Plan:
    """Say how many workers train together; raises ValueError if more are asked for than there is room for."""
    # One that trains has a whole GPU, since it is busy all of the time.
    gpus = max(1.0, plan.gpus) if plan.accelerator == "cuda" else 0.0
    most = room(plan.cores, gpus)
    what = f"{most} workers of {plan.cores:g} cores and {gpus:g} GPUs"
    if compute.devices == "auto":
        why = plan.reasons | {"devices": f"the Ray cluster has room for {what}"}
        return plan.model_copy(update={"devices": max(1, most), "reasons": why})
    if compute.devices > most:
        raise ValueError(f"compute.devices is {compute.devices}, and the Ray cluster has room for {what}")
    return plan


def check_everywhere(tickets: Sequence[Ticket], patience: float) -> None:
    """Try on every node what must be possible there, such as to read the photographs and to write results.

    Raises
    ------
    ConnectionError
        If a node does not answer in time.
    RuntimeError
        If something is not possible on some node; the message names them, and says what to do.
    """
    for ticket in tickets:
        try:
            ticket.open()
        except Exception as error:  # an object store raises anything
            raise RuntimeError(f"{ticket.name} cannot be used: {error}") from error
    problems: dict[str, list[str]] = {}
    here = list(tickets)

    def use_all(node: str) -> list[str]:
        said = []
        for ticket in here:
            try:
                ticket.use(node)
            except Exception as error:  # an object store raises anything
                said.append(f"{type(error).__name__}: {error}")
            else:
                said.append("")
        return said

    try:
        answers = on_every_node(use_all, patience)
    finally:
        unseen = [set(ticket.close(_names())) for ticket in tickets]
    for (node, said), number in ((answer, number) for answer in answers.items() for number in range(len(here))):
        why = said[number] or ("what it wrote does not arrive here" if node in unseen[number] else "")
        if why:
            problems.setdefault(here[number].name, []).append(f"{node}: {why}")
    if problems:
        lines = [f"{name}\n    " + "\n    ".join(nodes) for name, nodes in problems.items()]
        raise RuntimeError(
            "not all nodes of the cluster reach what they must read and write:\n  " + "\n  ".join(lines) + "\n"
            "put it on storage that all of them share, under the same path or as a URL such as s3://…: see docs/ray.md"
        )


def on_every_node(work: Callable[[str], R], patience: float) -> dict[str, R]:
    """Call a function once on every node that is alive, with its address; give the answers by address.

    Raises
    ------
    ConnectionError
        If one does not answer in time.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    for node in _alive():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        remote = ray.remote(num_cpus=0, max_retries=1, scheduling_strategy=there)(work)
        asked[remote.remote(node["NodeManagerAddress"])] = node
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=max(patience, 30.0))
    if late:
        raise ConnectionError(
            f"{len(late)} of {len(asked)} nodes of the Ray cluster do not answer: "
            + ", ".join(sorted(asked[reference]["NodeManagerAddress"] for reference in late))
        )
    answers = {}
    for reference in done:
        node = asked[reference]
        try:
            answers[node["NodeManagerAddress"]] = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise cause_of(error) from None
        except ray.exceptions.RayError as error:
            # One that has just died is listed as alive until the cluster notices; nothing will be asked of it
            if node["NodeID"] in {one["NodeID"] for one in _alive()}:
                raise ConnectionError(
                    f"node {node['NodeManagerAddress']} of the Ray cluster does not answer: {error}"
                ) from error
    return answers


def cause_of(error: BaseException) -> BaseException:
    """Give the exception that was raised by what a worker did, without what Ray wraps it in."""
    found = error
    while True:
        inner = getattr(found, "cause", None) or found.__cause__
        if not isinstance(inner, BaseException) or not type(found).__module__.startswith("ray."):
            return found
        found = inner


@lru_cache
def about_here() -> About:
    """Say what this process runs."""
    import ray

    import crack_pipeline

    folder = Path(crack_pipeline.__file__).parent
    return About(ray.__version__, platform.python_version(), *_package(str(folder)))


def _package(folder: str) -> tuple[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(folder).rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    try:
        number = version("crack-pipeline")
    except PackageNotFoundError:
        number = "unknown"
    return number, digest.hexdigest()


def _try(address: str, patience: float) -> None:
    """Join a cluster in a process of its own that can be given up; raises as `join`."""
    if address.startswith("ray://"):
        raise ConnectionError(
            f"compute.address is {address}, the address of Ray's client server: give that of the cluster itself, such "
            "as 10.0.0.1:6379, on a machine that is part of it"
        )
    if address != "auto" and not re.fullmatch(r".+:\d+", address):
        raise ConnectionError(
            f"compute.address is {address}, which is none: give the host and the port of the cluster's head, such as "
            "10.0.0.1:6379"
        )
    command = [sys.executable, "-c", _JOIN, address]
    # how long it looks for a node on this machine: half of the time, so that there is some left to say so
    surroundings = os.environ | {"RAY_gcs_server_request_timeout_seconds": str(max(1, int(patience / 2)))}
    surroundings.pop(_LOG_LEVEL, None)  # what it logs of a token is read here
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False, env=surroundings)
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"no Ray cluster answers at {address} within {patience:g} s (compute.patience): is the address that of its "
            "head, with the port, and does no firewall lie between? See docs/ray.md"
        ) from None
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ConnectionError(f"the Ray cluster at {address} cannot be joined: {last}") from None
    if answer["kind"]:
        raise _translated(address, answer["says"], done.stderr)


def _translated(address: str, says: str, logged: str = "") -> Exception:
    """Say in our words why a cluster could not be joined, from what Ray raised and logged."""
    if "Version mismatch" in says or "The cluster was started with" in says:
        found = re.findall(r"(Ray|Python):\s*([^\s,]+)", says)
        theirs, ours = (", ".join(" ".join(pair) for pair in part) for part in (found[:2], found[2:4]))
        return RuntimeError(
            f"the Ray cluster at {address} runs {theirs or 'other versions'}, and this machine {ours or 'others'}: "
            "they must be the same"
        )
    if any(word in says + logged for word in _NO_TOKEN):
        return ConnectionError(
            f"the Ray cluster at {address} does not know this machine's token: put that of the cluster into "
            "~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
        )
    if "node to connect to" in says:
        return ConnectionError(
            f"this machine is not part of the Ray cluster at {address}: make it one with ray start --address={address} "
            "--num-cpus=0, or run the command on a machine that is"
        )
    return ConnectionError(f"the Ray cluster at {address} cannot be joined: {says.strip()}")


def compare_nodes(patience: float) -> list[str]:
    """Look what the nodes of the cluster that was joined run, and give their addresses; raises as `join`."""

    # This is pickled whole, not by its name, since a node need not have the package.
    def look(_: str) -> tuple[str, str, str, str]:
        import importlib.util
        import platform
        from importlib.metadata import PackageNotFoundError, version

        import ray

        spec = importlib.util.find_spec("crack_pipeline")
        if spec is None or spec.origin is None:
            return ray.__version__, platform.python_version(), "missing", ""
        import hashlib
        from pathlib import Path

        folder = Path(spec.origin).parent
        digest = hashlib.blake2b(digest_size=8)
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
        try:
            number = version("crack-pipeline")
        except PackageNotFoundError:
            number = "unknown"
        return ray.__version__, platform.python_version(), number, digest.hexdigest()

    look.__module__ = "__main__"
    answers = {node: About(*answer) for node, answer in on_every_node(look, patience).items()}
    check_same(about_here(), answers)
    return list(answers)


def check_same(here: About, there: dict[str, About]) -> None:
    """Refuse nodes, by their names, that run something else than this machine; raises RuntimeError."""
    lines = []
    for node, about in sorted(there.items()):
        wrong = [
            f"{what} {theirs}, here {ours}"
            for what, theirs, ours in (
                ("Ray", about.ray, here.ray),
                ("Python", ".".join(about.python.split(".")[:2]), ".".join(here.python.split(".")[:2])),
            )
            if theirs != ours
        ]
        if not about.code:
            wrong.append("crack-pipeline is not installed")
        elif about.package != here.package:
            wrong.append(f"crack-pipeline {about.package}, here {here.package}")
        elif about.code != here.code:
            wrong.append(f"other source files of crack-pipeline {about.package} ({about.code}, here {here.code})")
        if wrong:
            lines.append(f"{node}: {'; '.join(wrong)}")
    if lines:
        raise RuntimeError(
            "some nodes of the Ray cluster run something else than this machine:\n  " + "\n  ".join(lines) + "\n"
            "install the same versions on all of them"
        )


def _check_room(cores: float, gpus: float) -> None:
    """Refuse a worker that fits on no node, which Ray would wait for; raises ValueError."""
    sizes = [(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in _alive()]
    if not any(cores <= has_cores and gpus <= has_gpus for has_cores, has_gpus in sizes):
        largest = ", ".join(f"{has_cores:g} cores and {has_gpus:g} GPUs" for has_cores, has_gpus in sorted(set(sizes)))
        raise ValueError(
            f"a worker is to have {cores:g} cores and {gpus:g} GPUs (compute.cores, compute.gpus), and no node of the "
            f"Ray cluster has that: they have {largest}"
        )


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _leaving() -> set[str]:
    """Name the nodes that are alive and take no more work, since they are going to be taken away."""
    from ray._private.state import state  # nothing public says it

    return set(state.get_draining_nodes())


def _names() -> list[str]:
    return [node["NodeManagerAddress"] for node in _alive()]
