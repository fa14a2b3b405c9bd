"""The compute plan: which device, which precision, how many images at once, and why.

Resolved once at the start of a run, saved and logged, so that the same command runs on a laptop and on a
GPU server and anyone can read what it chose.
"""

from __future__ import annotations

import os
import time
from typing import Literal

import psutil
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Accelerator = Literal["cpu", "cuda", "mps"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_BYTES_PER_IMAGE = 8 * 2**20
_MEMORY_SHARE = 0.5
_LARGEST_BATCH = {"cpu": 64, "mps": 256, "cuda": 2048}
_WORTHWHILE = 1.3
_ROUNDS, _FEWEST_ROUNDS, _PATIENCE = 8, 2, 0.5


class Compute(BaseModel):
    """What the machine may be asked for; ``auto`` lets the plan choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="that train together, each on its part of every batch: devices of this machine (auto: 1), or "
        "workers of a Ray cluster (auto: as many as it has room for)",
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto: bf16-mixed where the device computes it faster than 32-true"
    )
    batch_size: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="images scored at once; auto: from the free memory. Training has its own batch size",
    )
    workers: Literal["auto"] | NonNegativeInt = Field(
        "auto", description="processes that read images for training; auto: 0 on a CPU, up to 4 beside a GPU"
    )
    compile: Literal["auto"] | bool = Field("auto", description="torch.compile; auto: only on CUDA")
    engine: Literal["local", "ray"] = Field(
        "local", description="who does the work: this process, or the workers of a Ray cluster"
    )
    address: str | None = Field(
        None,
        min_length=1,
        description="of the Ray cluster, such as 10.0.0.1:6379; null: RAY_ADDRESS, or the cluster that this machine is "
        "part of, or a new one on this machine",
    )
    cores: Literal["auto"] | PositiveFloat = Field("auto", description="of a worker on Ray; auto: 1")
    gpus: Literal["auto"] | NonNegativeFloat = Field(
        "auto", description="share of a GPU of a worker on Ray; auto: 1 where the cluster has GPUs, otherwise 0"
    )
    block: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="photographs, about, that a worker is handed at a time, and that are done anew at most after a "
        "kill; auto: a number for each kind of work",
    )
    patience: PositiveFloat = Field(
        30.0, description="seconds that a Ray cluster has to answer before a run is given up that has not begun"
    )


class Plan(BaseModel):
    """What was chosen, and why: the answer to :class:`Compute` on one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accelerator: Accelerator
    device_name: str
    devices: int = Field(ge=1)
    precision: Precision
    batch_size: int = Field(ge=1)
    workers: int = Field(ge=0)
    compile: bool
    reasons: dict[str, str] = Field(description="one sentence per choice")
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    cores: float = Field(1.0, gt=0, description="of a worker on Ray")
    gpus: float = Field(0.0, ge=0, description="share of a GPU of a worker on Ray")
    block: int | None = Field(None, ge=1, description="photographs at a time; null: a number for each kind of work")
    patience: float = Field(30.0, gt=0, description="seconds that a Ray cluster has to answer")

    @property
    def device(self) -> torch.device:
        """The device that scores images."""
        return torch.device(self.accelerator)

    def here(self) -> Plan:
        """Give what of it this process can follow, which need not have the devices of a cluster's workers.

        What is not given to workers is then computed on the CPU, in full precision: slower, and the same but for the
        last digits.
        """
        if self.engine == "local" or self.accelerator == "cpu" or _has(self.accelerator):
            return self
        batch = min(self.batch_size, _LARGEST_BATCH["cpu"])
        why = self.reasons | {"accelerator": f"this machine has no {self.accelerator}, the workers of the cluster have"}
        changed = {"accelerator": "cpu", "device_name": "cpu", "precision": "32-true", "batch_size": batch}
        return self.model_copy(update={**changed, "compile": False, "workers": 0, "reasons": why})

    def autocast(self) -> torch.autocast:
        """Context in which networks run at the chosen precision."""
        dtype = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.accelerator, dtype=dtype, enabled=self.precision != "32-true")


def resolve(compute: Compute) -> Plan:
    """Look at the machine and choose what ``compute`` leaves open.

    Raises
    ------
    ValueError
        If a device is asked for that the machine, or the installed build of torch, does not have.
    """
    reasons: dict[str, str] = {}
    accelerator = _accelerator(compute.accelerator, reasons)
    devices = _devices(compute, accelerator, reasons)
    precision = _precision(compute.precision, accelerator, reasons)

    gpus = (1.0 if accelerator == "cuda" else 0.0) if compute.gpus == "auto" else compute.gpus
    free = _free_memory(accelerator)
    if accelerator == "cuda" and compute.engine == "ray" and 0 < gpus < 1:
        free = int(free * gpus)  # others share the device
    fitting = max(1, int(free * _MEMORY_SHARE) // _BYTES_PER_IMAGE)
    batch = min(_LARGEST_BATCH[accelerator], 2 ** (fitting.bit_length() - 1))
    batch_why = f"{free / 2**30:.1f} GiB are free, {_LARGEST_BATCH[accelerator]} at most pay on {accelerator}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = 0 if accelerator != "cuda" else min(4, max(0, cores - 1))
    workers_why = f"{cores} cores" + ("" if workers else ", all needed by the training itself")
    compiled = accelerator == "cuda" if compute.compile == "auto" else compute.compile
    reasons["compile"] = (
        ("pays on CUDA" if compiled else f"compiling costs more than it saves on {accelerator}")
        if compute.compile == "auto"
        else "asked for"
    )
    return Plan(
        accelerator=accelerator,
        device_name=torch.cuda.get_device_name() if accelerator == "cuda" else accelerator,
        devices=devices,
        precision=precision,
        batch_size=_number(compute.batch_size, batch, "batch_size", batch_why, reasons),
        workers=_number(compute.workers, workers, "workers", workers_why, reasons),
        compile=compiled,
        reasons=reasons,
        engine=compute.engine,
        address=compute.address,
        cores=1.0 if compute.cores == "auto" else compute.cores,
        gpus=gpus if compute.engine == "ray" else 0.0,
        block=None if compute.block == "auto" else compute.block,
        patience=compute.patience,
    )


def matrix_flops(dtype: torch.dtype, device: torch.device, size: int, repeats: int = 3) -> float:
    """Measure the rate of a square matrix product.

    Parameters
    ----------
    dtype, device
        Of the factors.
    size
        Side of the factors.
    repeats
        Products timed; the fastest counts.

    Returns
    -------
    float
        Floating-point operations per second, a multiplication and an addition counted as two.
    """
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):
        _synchronise(device)
        start = time.perf_counter()
        a @ b
        _synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _accelerator(wanted: str, reasons: dict[str, str]) -> Accelerator:
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "cuda" and not has_cuda:
        build = torch.version.cuda
        why = f"torch is built for CUDA {build} but sees no device" if build else "torch is a build without CUDA"
        raise ValueError(f"compute.accelerator is cuda, but {why}; use auto or cpu, or install another build of torch")
    if wanted == "mps" and not has_mps:
        raise ValueError("compute.accelerator is mps, but this machine has no Apple GPU; use auto or cpu")
    if wanted != "auto":
        reasons["accelerator"] = "asked for"
        return wanted  # type: ignore[return-value]
    if has_cuda:
        reasons["accelerator"] = f"{torch.cuda.get_device_name()} found"
        return "cuda"
    if has_mps:
        reasons["accelerator"] = "Apple GPU found"
        return "mps"
    reasons["accelerator"] = "no GPU found"
    return "cpu"


def _has(accelerator: Accelerator) -> bool:
    return torch.cuda.is_available() if accelerator == "cuda" else torch.backends.mps.is_available()


def _devices(compute: Compute, accelerator: Accelerator, reasons: dict[str, str]) -> int:
    there = max(1, torch.cuda.device_count()) if accelerator == "cuda" else 1
    why = f"one trains unless compute.devices says how many of {there} do" if there > 1 else "training uses one device"
    devices = _number(compute.devices, 1, "devices", why, reasons)
    # A worker of a cluster sees no more than its own; on a CPU, they are processes.
    if compute.engine == "local" and accelerator != "cpu" and devices > there:
        raise ValueError(f"compute.devices is {devices}, but this machine has {there} for {accelerator}")
    return devices


def _precision(wanted: str, accelerator: Accelerator, reasons: dict[str, str]) -> Precision:
    if wanted != "auto":
        reasons["precision"] = "asked for"
        return wanted  # type: ignore[return-value]
    if accelerator == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        reasons["precision"] = "the device computes bf16" if fast else "the device does not compute bf16"
        return "bf16-mixed" if fast else "32-true"
    if accelerator == "mps":
        reasons["precision"] = "bf16 is not reliable on MPS"
        return "32-true"
    # Some processors accept bf16 and emulate it a hundred times slower, so the rate is measured, not asked for. Both
    # are measured in turn: what else the machine does for a moment must not slow one of them alone.
    single = half = 0.0
    start = time.perf_counter()
    for done in range(_ROUNDS):
        if done >= _FEWEST_ROUNDS and time.perf_counter() - start > _PATIENCE:
            break
        single = max(single, matrix_flops(torch.float32, torch.device("cpu"), 512))
        half = max(half, matrix_flops(torch.bfloat16, torch.device("cpu"), 512))
    fast = half > _WORTHWHILE * single
    reasons["precision"] = f"bf16 {'pays' if fast else 'does not pay'} on this processor: " + (
        f"a matrix product runs at {half / single:.2g} times the rate of fp32"
    )
    return "bf16-mixed" if fast else "32-true"


def _free_memory(accelerator: Accelerator) -> int:
    if accelerator == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _number(wanted: Literal["auto"] | int, chosen: int, name: str, why: str, reasons: dict[str, str]) -> int:
    if wanted == "auto":
        reasons[name] = why
        return chosen
    reasons[name] = "asked for"
    return wanted
