import subprocess
import sys

import pytest
from kedro.validation.exceptions import ParameterValidationError
from kedro.validation.parameter_validator import ParameterValidator

from crack_pipeline import errors
from crack_pipeline.pipelines import anomaly

VALID = {"anomaly": {"scoring": {"candidates": [{"kind": "mse"}]}, "threshold": {}, "vae": {}, "report": {}}}


def explained(**changed):
    values = {"anomaly": VALID["anomaly"] | changed}
    with pytest.raises(ParameterValidationError) as found:
        ParameterValidator({"anomaly": anomaly.create_pipeline()}).validate_raw_params(values)
    return errors.explain_parameters(str(found.value))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"threshold": {"level": 200}}, "anomaly.threshold.level: Input should be less than 100, got 200"),
        ({"vae": {"epoch": 3}}, "anomaly.vae.epoch: Extra inputs are not permitted, got 3"),
        (
            {"scoring": {"candidates": [{"kind": "mse"}], "use": "best"}},
            "anomaly.scoring: use is 'best'; it takes auto or one of ['mse']",
        ),
    ],
)
def test_a_wrong_parameter_is_one_line(changed, expected):
    assert explained(**changed) == expected


def test_every_wrong_parameter_has_its_line():
    found = explained(vae={"epochs": 0, "latent": 0}, threshold={"level": 0}).splitlines()
    assert sorted(line.strip().split(":")[0] for line in found) == [
        "anomaly.threshold.level",
        "anomaly.vae.epochs",
        "anomaly.vae.latent",
    ]


@pytest.mark.parametrize("message", ["", "something else", "Parameter validation failed:\n- Parameter 'a': is None"])
def test_another_report_stays_as_it_is(message):
    assert errors.explain_parameters(message) == message


@pytest.fixture(autouse=True)
def without_traceback(monkeypatch):
    monkeypatch.delenv(errors.VARIABLE, raising=False)


def reported(capsys, error):
    errors.report(type(error), error, None)
    return capsys.readouterr().err


def test_an_error_is_its_message_and_its_cause(capsys):
    error = ValueError("the level is 200")
    error.__cause__ = KeyError("deeper")
    said = reported(capsys, error)
    assert "ValueError: the level is 200" in said
    assert "because of KeyError: 'deeper'" in said
    assert errors.VARIABLE in said


def test_a_cause_that_is_in_the_message_is_not_repeated(capsys):
    error = ValueError("it failed: the disk is full")
    error.__cause__ = OSError("the disk is full")
    assert reported(capsys, error).count("the disk is full") == 1


def test_an_error_without_a_message_has_its_kind(capsys):
    assert "RuntimeError: RuntimeError" in reported(capsys, RuntimeError())


def test_parameters_are_explained(capsys):
    message = (
        "Parameter validation failed:\n- Parameter 'a.b': Failed to instantiate B for parameter 'a.b': "
        "1 validation error for B\nc.0\n  Input should be 1 [type=literal_error, input_value=[2, 'x'], "
        "input_type=list]\n    For further information visit https://example.org"
    )
    assert "ParameterValidationError: a.b.c.0: Input should be 1, got [2, 'x']\n" in reported(
        capsys, ParameterValidationError(message)
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_the_traceback_is_there_for_those_who_ask(monkeypatch, wanted):
    script = "from crack_pipeline import errors; errors.install()\ndef inner(): raise ValueError('no')\ninner()"
    if wanted:
        monkeypatch.setenv(errors.VARIABLE, "1")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: no" in done.stderr
    assert ("Traceback" in done.stderr) is wanted
