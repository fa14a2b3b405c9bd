import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.export import nodes
from crack_pipeline.pipelines.export.parameters import Check
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.serving.exporting import Exported
from crack_pipeline.serving.onnx import Facts
from served_pictures import files

OPTIONS = {"image_size": 16, "image_channels": 1, "channels": [4], "latent": 2, "kernel": 3}
FACTS = {
    "network": OPTIONS,
    "image": {"size": 16, "mode": "grey", "resize": True},
    "name": "mse",
    "score": {"kind": "mse"},
    "thresholds": {"mse": 0.02},
    "in_use": {"model": "anomaly", "version": 7},
}
FILES = files() | {"broken.jpg": files()["jpg"][:200]}


class Root:
    name = "photographs"

    def read(self, path):
        return FILES[path]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return Weights(ConvVAE(**OPTIONS).state_dict(), FACTS)


@pytest.fixture(scope="module")
def candidate(trained):
    return nodes.export_detector(trained, Reading())


def listed(*paths):
    return pd.DataFrame({"path": list(paths)})


def compare(candidate, trained, *paths, **check):
    return nodes.compare(candidate, trained, Root(), listed(*paths), Check(**check), Reading())


def test_a_registered_version_is_named_by_what_is_exported(candidate, trained):
    assert (candidate.facts.model, candidate.facts.version) == ("anomaly", "7")
    assert candidate.facts.fingerprint == trained.fingerprint()


def test_what_agrees_is_accepted_and_told(candidate, trained):
    agreement = compare(candidate, trained, *FILES)
    assert list(agreement["path"]) == list(files())
    assert (agreement["max_difference"] < 1e-6).all()
    assert not agreement["label_differs"].any()
    assert agreement["pixels_differing"].isna().all()
    assert nodes.accept(candidate, agreement, Check()) is candidate
    told = nodes.summarise(candidate, agreement)
    assert "anomaly, version 7: ONNX opset 18" in told
    assert f"{len(files())} photographs (32-true)" in told
    assert "0 labels differ" in told


def test_as_many_as_wanted_are_compared_from_the_first_to_the_last(candidate, trained):
    found = compare(candidate, trained, *files(), photographs=3)
    names = list(files())
    assert list(found["path"]) == [names[0], names[len(names) // 2], names[-1]]


def test_where_it_was_measured_in_another_precision_that_is_told_too(candidate, trained):
    facts = FACTS | {"plan": {"precision": "bf16-mixed", "accelerator": "cpu"}}
    found = compare(candidate, Weights(trained.tensors, facts), *files())
    assert (found["max_difference_as_measured"] > found["max_difference"]).all()
    assert "at the precision it was measured with: " in nodes.summarise(candidate, found)


def test_another_network_is_noticed(candidate, trained):
    torch.manual_seed(1)
    other = Weights(ConvVAE(**OPTIONS).state_dict(), FACTS)
    agreement = compare(candidate, other, *files())
    with pytest.raises(ValueError, match=r"the exported anomaly does not answer as torch does: of \d of 7 photographs"):
        nodes.accept(candidate, agreement, Check(score=1e-6))


def test_a_root_without_photographs_is_named(candidate, trained):
    for paths in ((), ("broken.jpg",)):
        with pytest.raises(ValueError, match="none of the photographs in photographs can be used to compare"):
            compare(candidate, trained, *paths)


def segmenter():
    about = {"model": "segmentation", "fingerprint": "", "package": "", "opset": 18, "score": "", "mode": "rgb"}
    facts = Facts(kind="segmenter", threshold=0.5, classes={}, inputs={}, outputs={}, limits={}, **about)
    return Exported(b"", facts)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("max_difference", 0.002, "the probability of a pixel differs by more than 0.001, of b.jpg by 0.002"),
        ("max_difference", np.nan, "the probability of a pixel differs by more than 0.001, of b.jpg by nan"),
        ("pixels_differing", 0.01, "the mask, as a share of its pixels, differs by more than 0.0001, of b.jpg by 0.01"),
    ],
)
def test_the_worst_photograph_is_named(column, value, said):
    agreement = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "max_difference": 0.0, "pixels_differing": 0.0})
    nodes.accept(segmenter(), agreement, Check())
    agreement.loc[1, column] = value
    with pytest.raises(ValueError, match=said):
        nodes.accept(segmenter(), agreement, Check())


def test_limits_must_make_sense():
    for wrong in ({"photographs": 0}, {"probability": 0}, {"pixels": 2}, {"tolerance": 1}):
        with pytest.raises(ValidationError):
            Check(**wrong)
