import json
import logging

import numpy as np
import pandas as pd
import pytest

from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines import steps
from crack_pipeline.pipelines.anomaly import nodes, pictures
from crack_pipeline.pipelines.anomaly.parameters import Report, Scoring, Threshold
from crack_pipeline.pipelines.ingestion.parameters import Image

RIDGE, TAIL, MSE, BASELINE = "ridge_1px_99", "dark_tail_1px_99", "mse", "contrast"
METRICS = {"roc_auc", "average_precision", "precision", "recall", "f1", "fpr", "confusion", "n"} | {
    f"{name}_ci95" for name in ("roc_auc", "average_precision", "precision", "recall")
}
PREDICTIONS = ["image_id", "path", "label", "score", "predicted"]


def table(scores, labels=None, roles="validation", groups=None):
    """A table of scores as `score_validation` gives it."""
    n = len(next(iter(scores.values())))
    return pd.DataFrame(
        {
            "image_id": [f"id{i}" for i in range(n)],
            "path": [f"{i}.jpg" for i in range(n)],
            "label": labels if labels is not None else ["normal", "crack"] * (n // 2),
            "role": roles,
            "group": groups if groups is not None else np.arange(n),
            **{name: np.asarray(values, float) for name, values in scores.items()},
        }
    )


def validation(n=200, seed=0, **shifts):
    """Normal scores, those of cracks moved by a number of standard deviations."""
    rng = np.random.default_rng(seed)
    is_crack = np.arange(n) % 2
    return table({name: rng.normal(size=n) + shift * is_crack for name, shift in shifts.items()})


class TestChooseScore:
    def choose(self, scores, scoring, resamples=50):
        return nodes.choose_score(scores, scoring, Report(resamples=resamples))

    def test_a_score_that_is_clearly_best_is_chosen(self, scoring):
        scores = validation(**{RIDGE: 0.5, TAIL: 3, MSE: 0.2, BASELINE: 0})
        choice = self.choose(scores, scoring)
        assert choice["name"] == TAIL
        assert choice["score"] == {"kind": "dark_tail", "smoothing": 1.0, "quantile": 0.99}
        assert set(choice["validation"]) == {RIDGE, TAIL, MSE, BASELINE}
        assert "200 validation images" in choice["reason"]
        json.dumps(choice)

    def test_among_equals_the_earliest_is_preferred(self, scoring):
        scores = validation(**{RIDGE: 2, TAIL: 2, MSE: 2, BASELINE: 0})
        scores[TAIL] = scores[RIDGE]
        scores[MSE] = scores[RIDGE]
        # One pair more in the right order: better, but by far less than a standard error.
        best = scores.index[(scores["label"] == "crack")][scores[MSE][scores["label"] == "crack"].argmin()]
        scores.loc[best, MSE] += 0.5
        choice = self.choose(scores, scoring)
        assert choice["validation"][MSE]["roc_auc"] > choice["validation"][RIDGE]["roc_auc"]
        assert choice["name"] == RIDGE

    def test_the_baseline_and_the_published_score_are_never_chosen_unasked(self):
        scoring = Scoring.model_validate({"candidates": [{"kind": "ridge", "width": 1}]})
        assert self.choose(validation(**{RIDGE: 0, MSE: 9, BASELINE: 9}), scoring)["name"] == RIDGE

    def test_what_is_asked_for_is_taken(self, scoring):
        asked = Scoring(candidates=scoring.candidates, use=MSE)
        choice = self.choose(validation(**{RIDGE: 3, TAIL: 3, MSE: 0, BASELINE: 0}), asked)
        assert (choice["name"], choice["reason"]) == (MSE, "asked for")

    @pytest.mark.parametrize("label", ["normal", "crack"])
    def test_with_one_label_the_first_candidate_is_taken(self, scoring, label):
        scores = validation(**{RIDGE: 0, TAIL: 3, MSE: 0, BASELINE: 0}).assign(label=label)
        choice = self.choose(scores, scoring)
        assert choice["name"] == RIDGE
        assert "only one label" in choice["reason"]

    def test_it_does_not_need_intervals_in_the_report(self, scoring):
        scores = validation(**{RIDGE: 2, TAIL: 2.1, MSE: 0, BASELINE: 0})
        assert self.choose(scores, scoring, resamples=0)["name"] == RIDGE


class TestChooseThresholds:
    choice = {"name": RIDGE}  # noqa: RUF012

    def scores(self, values, **options):
        return table({RIDGE: values, MSE: 2 * np.asarray(values), BASELINE: 3 * np.asarray(values)}, **options)

    def test_the_percentile_is_that_of_sound_images(self):
        values = np.arange(40.0)
        values[1::2] += 1000
        found = nodes.choose_thresholds(self.scores(values), self.choice, Threshold(level=90))
        sound = np.percentile(values[::2], 90)
        assert found == pytest.approx({RIDGE: sound, MSE: 2 * sound, BASELINE: 3 * sound})

    def test_the_conformal_rule_counts_a_group_once(self):
        scores = self.scores(np.arange(40.0), labels="normal", groups=np.arange(40) // 2)
        found = nodes.choose_thresholds(scores, self.choice, Threshold(rule="conformal", level=90))
        # The 19th (= 0.9 x 21, rounded up) of the highest scores 1, 3, ... 39 of twenty groups
        assert found[RIDGE] == 37
        with pytest.raises(ValueError, match=r"needs at least 99 sound validation images, and there are 20"):
            nodes.choose_thresholds(scores, self.choice, Threshold(rule="conformal", level=99))

    def test_the_published_score_chosen_is_listed_once(self):
        found = nodes.choose_thresholds(self.scores(np.arange(8.0)), {"name": MSE}, Threshold())
        assert list(found) == [MSE, BASELINE]

    def test_no_sound_image_is_an_error(self):
        with pytest.raises(ValueError, match="sound images"):
            nodes.choose_thresholds(self.scores([1.0, 2], labels="crack"), self.choice, Threshold())


@pytest.fixture(name="test_scores")
def scores_of_the_test_images():
    rng = np.random.default_rng(1)
    shift = np.arange(40) % 2
    values = {name: rng.normal(size=40) + s * shift for name, s in ((RIDGE, 3), (MSE, 1), (BASELINE, 2))}
    return table(values, roles=["test"] * 16 + ["external"] * 24)


THRESHOLDS = {RIDGE: 1.5, MSE: 0.5, BASELINE: 1.0}


class TestMeasure:
    def test_the_form_of_the_metrics_is_the_agreed_one(self, test_scores, report):
        found = nodes.measure(test_scores, THRESHOLDS, {"name": RIDGE}, report)
        assert (found["score"], found["threshold"]) == (RIDGE, 1.5)
        assert found["baseline"]["name"] == BASELINE
        assert set(found["others"]) == {MSE}
        for entry in (found, found["baseline"], found["others"][MSE]):
            assert set(entry["sets"]) == {"internal", "external"}
            for metrics in entry["sets"].values():
                assert set(metrics) == METRICS
        assert found["sets"]["internal"]["n"] == {"normal": 8, "crack": 8}
        assert found["sets"]["external"]["n"] == {"normal": 12, "crack": 12}
        json.dumps(found)

    def test_a_set_that_is_empty_is_left_out(self, test_scores, report):
        internal = test_scores[test_scores["role"] == "test"]
        found = nodes.measure(internal, THRESHOLDS, {"name": MSE}, report)
        assert set(found["sets"]) == {"internal"}
        assert found["others"] == {}

    def test_what_is_tracked_is_flat_and_numeric(self, test_scores, report):
        found = nodes.measure(test_scores, THRESHOLDS, {"name": RIDGE}, report)
        tracked = nodes.track_metrics(found)
        assert tracked["external.roc_auc"] == {"value": found["sets"]["external"]["roc_auc"], "step": 0}
        assert tracked["mse.internal.f1"]["value"] == found["others"][MSE]["sets"]["internal"]["f1"]
        assert tracked["contrast.internal.f1"]["value"] == found["baseline"]["sets"]["internal"]["f1"]
        assert tracked["threshold"]["value"] == 1.5
        assert all(isinstance(entry["value"], float) for entry in tracked.values())

    def test_an_undefined_metric_is_not_tracked(self, test_scores, report):
        sound = test_scores[test_scores["label"] == "normal"]
        tracked = nodes.track_metrics(nodes.measure(sound, THRESHOLDS, {"name": RIDGE}, report))
        assert "internal.fpr" in tracked
        assert "internal.roc_auc" not in tracked


def test_predictions_agree_with_the_threshold(test_scores):
    internal, external = nodes.list_predictions(test_scores, THRESHOLDS, {"name": RIDGE})
    assert (len(internal), len(external)) == (16, 24)
    for found in (internal, external):
        assert list(found) == PREDICTIONS
        assert found["score"].is_monotonic_decreasing
        assert ((found["predicted"] == "crack") == (found["score"] > 1.5)).all()


class TestFingerprint:
    def test_it_depends_on_images_roles_and_preparation_alone(self, manifest, partition, image):
        found = nodes.fingerprint_data(manifest, partition, image)
        assert found["images"] == 24
        assert found["roles"]["train normal"] == 3
        shuffled = nodes.fingerprint_data(
            manifest.sample(frac=1, random_state=1), partition.sample(frac=1, random_state=2), image
        )
        assert shuffled == found

        moved = partition.assign(role=partition["role"].where(partition["image_id"] != "id05", "test"))
        renamed = {"image_id": {"id05": "other"}}
        others = [
            nodes.fingerprint_data(manifest, moved, image),
            nodes.fingerprint_data(manifest.replace(renamed), partition.replace(renamed), image),
            nodes.fingerprint_data(manifest, partition, Image(size=32)),
        ]
        assert len({found["fingerprint"], *(other["fingerprint"] for other in others)}) == 4


class TestDetector:
    @pytest.fixture
    def choice(self, scoring):
        return {"name": RIDGE, "score": scoring.named(RIDGE).model_dump(mode="json")}

    @pytest.fixture
    def detector(self, weights, choice, plan):
        return nodes.pack_detector(weights, choice, THRESHOLDS, Threshold(), plan)

    def test_validation_images_get_every_score(self, weights, images, manifest, partition, scoring, plan):
        found = nodes.score_validation(weights, images, manifest, partition, scoring, plan)
        assert list(found) == ["image_id", "path", "label", "role", "group", MSE, RIDGE, TAIL, BASELINE]
        assert found["image_id"].tolist() == [f"id{i:02d}" for i in range(6, 12)]
        assert found["group"].tolist() == [3, 3, 4, 4, 5, 5]
        lined, sound = found[found["label"] == "crack"], found[found["label"] == "normal"]
        for name in (RIDGE, TAIL, BASELINE):
            assert lined[name].min() > sound[name].max()

    def test_a_packed_detector_scores_as_before(self, weights, images, manifest, partition, choice, plan, detector):
        before = nodes.score_test(weights, images, manifest, partition, choice, plan)
        assert set(before["role"]) == {"test", "external"}
        after = nodes.score_new(detector, images, manifest, plan).set_index("image_id").loc[before["image_id"]]
        for name in (RIDGE, MSE, BASELINE):
            np.testing.assert_allclose(after[name], before[name], rtol=1e-5)

    def test_one_of_before_there_were_other_kinds_is_an_autoencoder(self, detector, images, manifest, plan, report):
        old = Weights(detector.tensors, {name: fact for name, fact in detector.facts.items() if name != "detector"})
        scores = nodes.score_new(old, images, manifest, plan)
        pd.testing.assert_frame_equal(scores, nodes.score_new(detector, images, manifest, plan))
        assert len(pictures.draw_examples(old, images, manifest, scores, plan, report)) == 4

    def test_it_carries_what_a_prediction_needs(self, detector, image, plan):
        assert nodes.read_preparation(detector) == image
        facts = json.loads(json.dumps(detector.facts))
        assert facts["thresholds"] == THRESHOLDS
        assert nodes.score_named(facts["score"]).name == facts["name"] == RIDGE
        assert Plan.model_validate(facts["plan"]) == plan

    def test_new_photographs_need_no_label(self, images, manifest, plan, detector):
        unlabelled = manifest.assign(label=pd.Series([None] * 24, dtype="str"))
        found = nodes.list_new_predictions(nodes.score_new(detector, images, unlabelled, plan), detector)
        assert list(found) == PREDICTIONS
        assert found["label"].isna().all()
        assert sorted(found["image_id"]) == manifest["image_id"].tolist()

    def test_no_photographs_give_an_empty_table(self, images, manifest, plan, detector):
        assert nodes.score_new(detector, images, manifest[:0], plan).empty

    def test_an_evaluation_is_measured_at_the_detectors_threshold(self, images, manifest, plan, detector, report):
        scores = nodes.score_new(detector, images, manifest, plan)
        found = nodes.measure_evaluation(scores, detector, report)
        assert set(found["sets"]) == {"evaluation"}
        assert (found["score"], found["threshold"]) == (RIDGE, THRESHOLDS[RIDGE])
        assert set(found["sets"]["evaluation"]) == METRICS


def test_the_plan_is_logged_with_its_reasons(caplog):
    with caplog.at_level(logging.INFO, steps.__name__):
        plan = steps.resolve_plan(Compute(accelerator="cpu", precision="32-true"))
    assert "accelerator cpu (asked for)" in caplog.text
    assert all(why in caplog.text for why in plan.reasons.values())
