import numpy as np
import pandas as pd
import pytest

from contending import LEARNED_FROM, photographs, segmenter
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.registered import Contenders, Newest, Registered
from crack_pipeline.pipelines.retraining.drifting import QUANTITIES, judge, measure_photographs
from crack_pipeline.pipelines.retraining.looking import News
from crack_pipeline.pipelines.retraining.parameters import DriftCheck, Retraining

NEW = ["10", "11", "12"]


class Models:
    """A registry whose champion is not its newest version."""

    def __init__(self, champion, newest):
        self.found = Contenders(
            "segmentation", Registered(2, newest), champion and Registered(1, champion), False, False
        )

    def contenders(self, model, version=None):
        return self.found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))


@pytest.fixture(scope="module")
def good():
    return segmenter(12)


def measured(data, plan, registry, new=NEW, version=2, **options):
    images, manifest, partition = data
    ids = manifest["photo_id"]
    there = pd.DataFrame({"photo_id": ids})
    newest = version and Newest(version, True, None)
    news = News(there, there[~ids.isin(new)], pd.DataFrame({"change": []}), "f", newest, True)
    retraining = Retraining(drift=DriftCheck(**options))
    return measure_photographs(news, images, manifest, partition, registry, retraining, plan, model="segmentation")


def test_photographs_are_measured_and_scored_unless_they_were_learned_from(data, plan, good):
    images, manifest, _ = data
    found = measured(data, plan, Models(good, segmenter(1))).set_index("image_id")
    assert found.index[found["new"]].tolist() == NEW
    assert set(found.index[found["score"].isna()]) == set(LEARNED_FROM)
    assert found["score"].dropna().between(0, 1).all() and found["score"].nunique() > 5
    assert found["resolution"].tolist() == [32.0] * len(manifest)
    grey = images.photograph(10) @ np.array([0.299, 0.587, 0.114])
    assert found.loc["10", "brightness"] == pytest.approx(grey.mean(), abs=0.5)
    assert (found["sharpness"] > 0).all()


def test_resolution_is_that_of_the_photograph_where_it_is_cut_into_tiles(data, plan, good):
    class Tiled(PhotographStack):
        @property
        def photos(self):
            return super().photos.assign(width=128)

    images, *tables = data
    found = measured((Tiled(images.folder), *tables), plan, Models(good, good))
    assert (found["resolution"] == 64).all()


def test_the_champion_scores_or_the_newest_version_where_there_is_none(data, plan, good):
    by_champion = measured(data, plan, Models(good, segmenter(1)))
    by_newest = measured(data, plan, Models(None, good))
    pd.testing.assert_frame_equal(by_champion, by_newest)
    other = measured(data, plan, Models(None, segmenter(1)))
    assert not np.allclose(other["score"].dropna(), by_newest["score"].dropna())


def test_a_model_of_another_form_does_not_score(data, plan, good, caplog):
    grey = good._replace(facts={**good.facts, "image": {"size": 64, "mode": "grey"}})
    found = measured(data, plan, Models(grey, grey))
    assert found["score"].isna().all() and found["brightness"].notna().all()
    assert "version 1 cannot score these photographs: it takes photographs of size 64 in grey" in caplog.text
    assert [shift.quantity for shift in judge(found, Retraining(drift=DriftCheck()))[0].shifts] == QUANTITIES[1:]


@pytest.mark.parametrize(("new", "version"), [([], 2), (NEW, None), ([f"{n:02d}" for n in range(18)], 2)])
def test_nothing_is_measured_where_there_is_nothing_to_compare(data, plan, good, new, version):
    found = measured(data, plan, Models(good, good), new, version)
    drift, table, _, tracked = judge(found, Retraining(drift=DriftCheck()))
    assert found.empty and (drift.verdict, drift.about) == ("not measured", "")
    assert table["verdict"].tolist() == ["not measured"] * 4
    assert tracked == {"drift.drifted": {"value": 0.0, "step": 0}}


def test_few_photographs_prove_nothing(data, plan, good):
    drift, table, _, tracked = judge(measured(data, plan, Models(good, good)), Retraining(drift=DriftCheck()))
    assert drift.verdict == "too few" and drift.about == "3 new photographs against 15 earlier ones"
    assert table["new_photographs"].tolist() == [3, 3, 3, 3] and table["earlier_photographs"].tolist() == [
        9,
        15,
        15,
        15,
    ]
    assert tracked["drift.brightness"]["value"] == pytest.approx(table["distance"][1])
