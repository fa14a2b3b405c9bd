import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from contending import LEARNED_FROM, ROLES, photographs, segmenter
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.evaluation.metrics import detection_metrics
from crack_pipeline.models.registered import Contenders, Registered, Standing
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.nodes import score_named, score_new
from crack_pipeline.pipelines.promotion.contending import (
    External,
    answer,
    check_unseen,
    load_contenders,
    read_external,
    why_not,
)
from crack_pipeline.pipelines.promotion.deciding import choose_earlier, decide, insist, report, summarise_rollback
from crack_pipeline.pipelines.promotion.parameters import MODELS, Promotion

SETTINGS = {
    "model": "segmentation",
    "detector": {"chosen": "roc_auc", "metrics": {"roc_auc": {"least": 0.6}}},
    "segmenter": {"chosen": "dice", "metrics": {"dice": {"may_lose": 0.01, "least": 0.3}, "average_precision": {}}},
    "sampling": {"resamples": 200, "least_groups": 5},
}
PROMOTION = Promotion.model_validate(SETTINGS)


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))


@pytest.fixture(scope="module")
def good():
    return segmenter(60)


@pytest.fixture(scope="module")
def poor():
    return segmenter(12)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs"))


def loaders(model, *tables):
    def nothing():
        raise AssertionError("only what is asked for is read")

    place = 3 * MODELS.index(model)
    found = [nothing] * (3 * len(MODELS))
    found[place : place + 3] = [lambda table=table: table for table in tables]
    return found


@pytest.fixture(scope="module")
def external(data):
    return read_external(PROMOTION, *loaders("segmentation", *data))


def contend(challenger, champion=None, *, version=2, **more):
    before = None if champion is None else Registered(1, champion)
    about = {"asked_for": False, "rolled_back": False} | more
    return Contenders("segmentation", Registered(version, challenger), before, **about)


def decided(contenders, external, plan, promotion=PROMOTION):
    judges = check_unseen(contenders, external)
    return decide(contenders, external, judges, *answer(contenders, external, judges, plan), promotion)


def test_the_better_segmenter_is_promoted_and_the_poorer_one_is_not(good, poor, external, plan):
    better = decided(contend(good, poor), external, plan)
    assert better.evidence.promoted and better.champion == 1 and better.challenger == 2
    assert better.fingerprint == good.whole_fingerprint() and better.role == "test"
    assert better.evidence.photographs == better.evidence.groups == 12
    worse = decided(contend(poor, good), external, plan)
    assert not worse.evidence.promoted and "worse on dice" in worse.evidence.reason
    assert worse.photographs == better.photographs
    decision, table, figure, summary, tracked = report(worse.carried_out())
    assert decision.outcome == "kept" and insist(decision, summary) is decision
    assert table["metric"].tolist() == ["dice", "average_precision"]
    assert "version 1 stays the champion" in summary and "12 photographs of 12 places" in summary
    assert tracked["promoted"]["value"] == 0 and tracked["dice.high"]["value"] < 0
    assert "segmentation, version 2 against 1: not promoted" in figure.axes[0].get_title(loc="left")


def test_the_first_one_must_be_good_enough(good, external, plan):
    assert decided(contend(good), external, plan).evidence.promoted
    refused = decided(contend(segmenter(0)), external, plan)
    assert not refused.evidence.promoted and "there is no champion yet" in refused.evidence.reason
    assert "no champion yet" in report(refused)[3]


def test_only_cracked_places_count_for_segmenters(good, external, plan):
    cracked = external.photographs["crack_pixels"].where(np.arange(12) < 4, 0)
    few = external._replace(photographs=external.photographs.assign(crack_pixels=cracked))
    assert "of 4 different cracked places, and at least 5" in decided(contend(good), few, plan).evidence.reason


def test_answers_about_other_photographs_are_refused(good, poor, external, plan):
    contenders = contend(good, poor)
    ours, theirs = answer(contenders, external, external.photographs, plan)
    with pytest.raises(ValueError, match="answers of version 1 are not about the photographs that judge"):
        decide(contenders, external, external.photographs, ours, theirs[::-1], PROMOTION)


def test_each_answers_with_its_own_threshold(good, external, plan):
    blind = Weights(good.tensors, good.facts | {"threshold": 255 / 256})
    found = decided(contend(good, blind), external, plan)
    rows = {row.metric: row for row in found.evidence.rows}
    assert rows["dice"].difference > 0 and rows["average_precision"].difference == 0


def test_what_needs_no_comparison_is_said_at_once(good, poor, external, plan):
    same = contend(good, good, version=1)
    again = contend(good, poor, rolled_back=True)
    assert "is the champion already" in why_not(same) and "promotion.version=2" in why_not(again)
    for contenders in (same, again):
        found = decided(contenders, external, plan)
        assert not found.evidence.promoted and not found.evidence.rows
        assert "stays the champion" in report(found)[3]
    assert decided(contend(good, poor, rolled_back=True, asked_for=True), external, plan).evidence.promoted


@pytest.mark.parametrize("whose", ["challenger", "champion"])
def test_who_has_seen_a_photograph_that_judges_is_refused(good, poor, external, data, whose):
    def with_facts(weights, **facts):
        return Weights(weights.tensors, weights.facts | facts)

    def contenders(weights):
        return contend(weights, poor) if whose == "challenger" else contend(poor, weights)

    version = 2 if whose == "challenger" else 1
    seen = with_facts(good, learned_from=[*LEARNED_FROM, external.photographs["photo_id"][3]])
    with pytest.raises(ValueError, match=f"version {version} of segmentation has learned from 1 of the 12"):
        check_unseen(contenders(seen), external)
    way_on = "Train it with the roles" if whose == "challenger" else "delete the alias champion"
    with pytest.raises(ValueError, match=way_on):
        check_unseen(contenders(seen), external)
    silent = Weights(good.tensors, {name: fact for name, fact in good.facts.items() if name != "learned_from"})
    with pytest.raises(ValueError, match=f"version {version} of segmentation does not say"):
        check_unseen(contenders(silent), external)
    # A copy of one that judges, which lies among those that were learned from
    copies = external.known.assign(group=external.known["group"].replace("05", "06"))
    judged = external.photographs.assign(group=external.photographs["group"].replace("05", "06"))
    with pytest.raises(ValueError, match="or from near-duplicates"):
        check_unseen(contenders(good), External(external.images, copies, judged, "test"))
    grey = with_facts(good, image={"size": None, "mode": "grey", "masks": True})
    other = (
        "in grey, and those that there are" if whose == "challenger" else r"forms \(mode\).*delete the alias champion"
    )
    with pytest.raises(ValueError, match=other):
        check_unseen(contenders(grey), external)
    assert len(check_unseen(contenders(good), external)) == 12


def test_who_has_learned_from_what_was_left_out_beside_a_photograph_that_judges_is_refused(good, poor, data):
    """A photograph came back beside a copy of it that was trained on meanwhile: the partition sets them apart."""
    images, manifest, partition = data
    torn = manifest.assign(group=manifest["group"].mask(manifest["image_id"] == "00", "12"))
    apart = partition.assign(role=partition["role"].mask(partition["image_id"] == "00", "left_out"))
    external = read_external(PROMOTION, *loaders("segmentation", images, torn, apart))
    with pytest.raises(ValueError, match=r"version 2 of segmentation has learned from 1 of the 12 .*near-dup"):
        check_unseen(contend(good, poor), external)
    innocent = Weights(good.tensors, good.facts | {"learned_from": LEARNED_FROM[1:]})
    assert len(check_unseen(contend(innocent, poor), external)) == 12  # what a champion has seen speaks for it


def test_what_was_not_carried_out_is_not_called_promoted(good, poor, external, plan):
    better = decided(contend(good, poor), external, plan)
    decision, table, figure, summary, tracked = report(better.outdated("version 3 has become the champion since"))
    assert summary.startswith(
        "version 2 of segmentation is not promoted: version 3 has become the champion since. What"
    )
    assert "stays the champion" not in summary and "it is better" in summary and len(table) == 2
    assert tracked["promoted"]["value"] == 0 and "not promoted" in figure.axes[0].get_title(loc="left")
    with pytest.raises(ValueError, match="version 3 has become the champion since"):
        insist(decision, summary)


def test_who_has_learned_from_photographs_that_are_gone_must_be_vouched_for(good, poor, external, caplog):
    """They may be near-duplicates of those that judge, re-compressed: nobody can tell any longer."""
    gone = Weights(good.tensors, good.facts | {"learned_from": [*LEARNED_FROM, "x", "y"]})
    with pytest.raises(ValueError, match=r"version 2 .* of which 2 of 8 are not .*promotion.learned_elsewhere=true"):
        check_unseen(contend(gone, poor), external)
    assert len(check_unseen(contend(gone, poor), external._replace(learned_elsewhere=True))) == 12
    # What a champion has seen speaks for it, and against promoting another one
    caplog.clear()
    assert len(check_unseen(contend(poor, gone), external)) == 12
    assert "version 1 of segmentation has learned from photographs of which 2 of 8 are not" in caplog.text


def test_the_word_for_them_reaches_the_check(data):
    vouched = PROMOTION.model_copy(update={"learned_elsewhere": True})
    assert read_external(vouched, *loaders("segmentation", *data)).learned_elsewhere


def test_photographs_of_the_role_external_come_first(data):
    images, manifest, partition = data
    roles = np.where(np.arange(len(ROLES)) > 15, "external", partition["role"])
    found = read_external(PROMOTION, *loaders("segmentation", images, manifest, partition.assign(role=roles)))
    assert found.role == "external" and found.photographs["image_id"].tolist() == ["16", "17"]
    with pytest.raises(ValueError, match="has the role external or test"):
        read_external(PROMOTION, *loaders("segmentation", images, manifest, partition.assign(role="train")))
    unmarked = manifest.assign(crack_pixels=pd.array([pd.NA] * len(manifest), dtype="Int64"))
    with pytest.raises(ValueError, match="none of the photographs of the role test has a mask"):
        read_external(PROMOTION, *loaders("segmentation", images, unmarked, partition))


class Grey:
    """Pictures of one size, by rows; every second one has a dark line."""

    shape = (40, 16, 16)

    def __init__(self):
        self.pixels = np.random.default_rng(0).integers(100, 140, self.shape, np.uint8)
        self.pixels[1::2, :, 7:9] -= 80
        self.index = pd.DataFrame({"image_id": [f"{i:02d}" for i in range(40)]})

    def take(self, rows):
        return self.pixels[rows]


def test_detectors_are_compared_by_their_scores(plan):
    images, number = Grey(), np.arange(40)
    manifest = images.index.assign(
        photo_id=images.index["image_id"],
        path=images.index["image_id"],
        label=np.where(number % 2, "crack", "normal"),
        group=number,
        row=number,
    )
    partition = pd.DataFrame({"image_id": manifest["image_id"], "group": number, "role": "external"})
    promotion = Promotion.model_validate(SETTINGS | {"model": "anomaly"})
    external = read_external(promotion, *loaders("anomaly", images, manifest, partition))

    def detector(score, learned=True):
        torch.manual_seed(0)
        options = {"image_size": 16, "image_channels": 1, "channels": [4, 8], "latent": 4, "kernel": 3}
        name = score_named(score).name
        facts = {"network": options, "image": {"size": 16, "mode": "grey"}, "learned_from": [], "detector": "vae"}
        facts |= {"name": name, "score": score, "thresholds": {name: 0.1}}
        network = ConvVAE(**options)
        if not learned:
            torch.nn.init.zeros_(next(network.parameters()))
        return Weights(network.state_dict(), facts)

    sharp, blurred = detector({"kind": "ridge", "width": 1}), detector({"kind": "mse"}, learned=False)
    contenders = Contenders("anomaly", Registered(2, sharp), Registered(1, blurred), False, False)
    found = decided(contenders, external, plan, promotion)
    (row,) = found.evidence.rows
    assert row.metric == "roc_auc" and row.challenger > 0.9 and found.role == "external"
    told = detection_metrics(
        (manifest["label"] == "crack").to_numpy(), score_new(blurred, images, manifest, plan)["mse"], 0.1, number
    )
    assert row.champion == told["roc_auc"]
    rare = manifest.assign(label=np.where(number < 4, "normal", "crack"))
    few = read_external(promotion, *loaders("anomaly", images, rare, partition))
    assert "of 4 different sound places" in decided(contenders, few, plan, promotion).evidence.reason
    other = Weights(sharp.tensors, sharp.facts | {"image": {"size": 32, "mode": "grey"}})
    with pytest.raises(ValueError, match="takes photographs of size 32 in grey"):
        check_unseen(contenders._replace(challenger=Registered(2, other)), external)
    cut = Weights(sharp.tensors, sharp.facts | {"image": {"size": 16, "mode": "grey", "tiles": False}})
    with pytest.raises(ValueError, match=r"different forms \(tiles\)"):
        check_unseen(contenders._replace(challenger=Registered(2, cut)), external)


class Registry:
    def __init__(self, *standing):
        self.found = Standing(*standing)

    def standing(self, _):
        return self.found

    def contenders(self, model, version=None):
        return Contenders(model, Registered(version or 9, Weights({}, {})), None, version is not None, False)


def test_the_version_that_is_asked_for_contends():
    assert load_contenders(Registry(None, (), frozenset()), PROMOTION).challenger.version == 9
    named = PROMOTION.model_copy(update={"version": 4})
    assert load_contenders(Registry(None, (), frozenset()), named).challenger.version == 4


def test_the_way_back():
    registry = Registry(5, (3, 1), frozenset())
    found = choose_earlier(registry, PROMOTION)
    assert (found.champion, found.version) == (5, 3)
    assert "version 3 of segmentation is the champion again" in summarise_rollback(found)
    assert choose_earlier(registry, PROMOTION.model_copy(update={"version": 1})).version == 1
    with pytest.raises(ValueError, match="version 4 of segmentation was not in use before; those that were: 3, 1"):
        choose_earlier(registry, PROMOTION.model_copy(update={"version": 4}))
    with pytest.raises(ValueError, match="version 5 is the first champion of segmentation"):
        choose_earlier(Registry(5, (), frozenset()), PROMOTION)
    with pytest.raises(ValueError, match=r"has no champion: there is nothing to go back from$"):
        choose_earlier(Registry(None, (), frozenset()), PROMOTION)
    with pytest.raises(ValueError, match=r"has no champion.*version 3 was in use before.*promotion.version=3"):
        choose_earlier(Registry(None, (3, 1), frozenset()), PROMOTION)


def test_wrong_parameters_are_one_clear_message():
    with pytest.raises(ValidationError, match="'roc_auc' is not one of the metrics dice"):
        Promotion.model_validate(SETTINGS | {"segmenter": SETTINGS["detector"]})
    with pytest.raises(ValidationError, match="'dice' is not one of the metrics roc_auc"):
        Promotion.model_validate(SETTINGS | {"detector": SETTINGS["segmenter"]})
    with pytest.raises(ValidationError, match="model"):
        Promotion.model_validate(SETTINGS | {"model": "synthesis"})
