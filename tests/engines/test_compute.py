import pytest
import torch
from pydantic import ValidationError

from crack_pipeline.engines import compute
from crack_pipeline.engines.compute import Compute, Plan, matrix_flops, resolve

CHOICES = {"accelerator", "devices", "precision", "batch_size", "workers", "compile"}


def test_auto_chooses_everything_and_says_why():
    plan = resolve(Compute())
    assert set(plan.reasons) == CHOICES
    assert all(plan.reasons.values())
    assert "asked for" not in plan.reasons.values()
    assert plan.device.type == plan.accelerator
    assert plan.batch_size >= 1
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_what_is_asked_for_is_respected():
    wanted = {"accelerator": "cpu", "precision": "bf16-mixed", "batch_size": 7, "workers": 2, "compile": True}
    plan = resolve(Compute(**wanted, devices=1))
    assert plan.model_dump(include=set(wanted)) == wanted
    assert set(plan.reasons.values()) == {"asked for"}


def test_half_precision_is_in_force_only_where_the_plan_says_so():
    factor = torch.ones(2, 2)
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with resolve(Compute(accelerator="cpu", precision=precision)).autocast():
            assert (factor @ factor).dtype == dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match=r"compute.accelerator is cuda, but .*; use auto or cpu"):
        resolve(Compute(accelerator="cuda"))


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_mps_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match=r"compute.accelerator is mps, but .*; use auto or cpu"):
        resolve(Compute(accelerator="mps"))


def test_the_plan_of_a_gpu_comes_from_what_torch_says_of_it(monkeypatch):
    for name, value in {
        "is_available": True,
        "get_device_name": "a card",
        "is_bf16_supported": True,
        "mem_get_info": (16 * 2**30, 80 * 2**30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    plan = resolve(Compute())
    assert (plan.accelerator, plan.device_name, plan.precision) == ("cuda", "a card", "bf16-mixed")
    assert (plan.devices, plan.batch_size, plan.compile) == (1, 1024, True)
    assert "a card" in plan.reasons["accelerator"]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert resolve(Compute()).precision == "32-true"


@pytest.mark.parametrize(("half", "precision"), [(0.3, "32-true"), (2.0, "bf16-mixed")])
@pytest.mark.parametrize("disturbed", [0, 1, 2, 3])
def test_a_moment_of_other_work_does_not_change_the_precision(monkeypatch, half, precision, disturbed):
    rates = {torch.float32: 1e11, torch.bfloat16: half * 1e11}
    asked = []

    def measured(dtype, *_):
        asked.append(dtype)
        return rates[dtype] / (10 if len(asked) - 1 == disturbed else 1)

    monkeypatch.setattr(compute, "matrix_flops", measured)
    assert resolve(Compute(accelerator="cpu")).precision == precision


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": "many"},
        {"devices": 0},
        {"workers": -1},
        {"accelerator": "tpu"},
        {"precision": "64"},
        {"accelerators": "cpu"},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Compute(**wrong)


def test_processes_share_a_cpu_and_devices_must_be_there(monkeypatch):
    assert resolve(Compute(accelerator="cpu", precision="32-true", devices=3)).devices == 3
    monkeypatch.setattr(compute.torch.cuda, "device_count", lambda: 2)
    for engine, refused in (("local", True), ("ray", False)):
        reasons = {}
        asked = Compute(engine=engine, devices=3)
        if refused:
            with pytest.raises(ValueError, match=r"compute\.devices is 3, but this machine has 2 for cuda"):
                compute._devices(asked, "cuda", reasons)
        else:
            assert compute._devices(asked, "cuda", reasons) == 3
    assert compute._devices(Compute(), "cuda", reasons) == 1
    assert "one trains unless compute.devices says how many of 2 do" in reasons["devices"]


def test_the_rate_of_a_matrix_product_is_a_rate():
    assert 1e6 < matrix_flops(torch.float32, torch.device("cpu"), 64) < 1e14


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_what_is_done_where_the_command_runs_needs_no_gpu_of_the_cluster():
    theirs = resolve(Compute(accelerator="cpu", precision="bf16-mixed", batch_size=2048)).model_copy(
        update={"engine": "ray", "accelerator": "cuda", "compile": True}
    )
    here = theirs.here()
    assert (here.device.type, here.precision, here.batch_size, here.compile) == ("cpu", "32-true", 64, False)
    assert (here.engine, here.devices) == (theirs.engine, theirs.devices)
    assert "this machine has no cuda" in here.reasons["accelerator"]
    with here.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    for same in (theirs.model_copy(update={"engine": "local"}), theirs.model_copy(update={"accelerator": "cpu"})):
        assert same.here() is same
