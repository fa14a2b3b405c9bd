from pathlib import Path

import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from crack_pipeline.pipelines.sample import create_pipeline
from crack_pipeline.pipelines.sample.parameters import Sample

CONF = Path(__file__).parents[3] / "conf"


@pytest.mark.filterwarnings("ignore:Save version")
def test_a_smaller_rendering_leaves_nothing_of_a_larger_one(tmp_path):
    catalog_config = yaml.safe_load((CONF / "base/catalog/sample.yml").read_text())
    for entry in catalog_config.values():
        entry["filepath"] = str(tmp_path / entry["filepath"])
    folder = Path(catalog_config["sample_photographs"]["filepath"])

    def render(normal, crack):
        catalog = DataCatalog.from_config(catalog_config, save_version=f"{normal}-{crack}")
        sample = Sample(normal=normal, crack=crack, size=48, difficulty="easy")
        catalog["params:sample"] = MemoryDataset(sample)
        SequentialRunner().run(create_pipeline(), catalog)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*g")}

    many, few = render(5, 4), render(3, 2)
    assert len(many) == 5 + 2 * 4
    assert sorted(few) == [
        "Negative/00001.jpg",
        "Negative/00002.jpg",
        "Negative/00003.jpg",
        "Positive/00001.jpg",
        "Positive/00002.jpg",
        "masks/Positive/00001.png",
        "masks/Positive/00002.png",
    ]
    assert {name: many[name] for name in few} == few
    assert len(list(tmp_path.rglob("examples.png/*/examples.png"))) == 2


def test_the_configured_parameters_are_valid():
    base = Sample.model_validate(yaml.safe_load((CONF / "base/parameters/sample.yml").read_text())["sample"])
    assert (base.normal, base.crack) == (600, 400)
    test = yaml.safe_load((CONF / "test/parameters/sample.yml").read_text())["sample"]
    assert Sample.model_validate(test).normal <= 100
