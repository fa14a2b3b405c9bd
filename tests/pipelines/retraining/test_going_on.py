import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from crack_pipeline.endings import Ending
from crack_pipeline.evaluation.drift import Drift, Shift
from crack_pipeline.evaluation.promotion import Decision, Evidence
from crack_pipeline.models.registered import Newest
from crack_pipeline.pipelines.promotion.parameters import Promotion
from crack_pipeline.pipelines.retraining.going_on import (
    finish_earlier,
    go_on,
    note_unusable,
    permit,
    remember,
    summarise,
)
from crack_pipeline.pipelines.retraining.looking import CHANGES, KNOWN, NEW, News
from crack_pipeline.pipelines.retraining.parameters import DriftCheck, Retraining

FOLDER = Path("checkpoints")
RETRAINING = Retraining(drift=DriftCheck())
STABLE = Drift(verdict="stable", shifts=())


def table(*ids):
    rows = {"photo_id": list(ids), "path": list(ids), "label": "normal", "mask_path": None, "mask_id": None}
    return pd.DataFrame(rows | {"size": 1, "mask_size": 0, "version": 1})[list(KNOWN)]


def news(*new, known=("a", "b"), train=True, decided=True, version=1):
    changes = pd.DataFrame([(NEW, one, "", "") for one in new], columns=list(CHANGES))
    newest = version and Newest(version, decided, None)
    return News(table(*known, *new)[list(KNOWN[:-1])], table(*known), changes, "f", newest, train)


def decision(promoted=True):
    evidence = Evidence(promoted=promoted, reason="it is better")
    return Decision(model="anomaly", challenger=1, champion=None, fingerprint="f", evidence=evidence)


def quarantined(*paths, kind="damaged"):
    return pd.DataFrame([(path, "why", kind) for path in paths], columns=["path", "reason", "kind"]).astype("str")


def drifted():
    shift = Shift(
        quantity="brightness",
        verdict="drifted",
        earlier=100.0,
        new=50.0,
        distance=0.8,
        p=0.0,
        level=0.0125,
        earlier_photographs=90,
        new_photographs=30,
        earlier_places=90,
        new_places=30,
    )
    return Drift(verdict="drifted", shifts=(shift,), about="30 new photographs against 90 earlier ones")


def test_the_run_goes_on_where_there_is_something_to_train_on():
    assert go_on(news("c"), None, "root", model="anomaly") == "root"
    assert go_on(news("c", version=None), None, "root", model="anomaly") == "root"


def test_the_run_ends_in_one_line_where_nothing_is_new():
    found = go_on(news(train=False), None, "root", model="anomaly")
    assert found == Ending("anomaly: nothing is new, version 1 was made with these 2 photographs; nothing is trained")
    unused = news(train=False)
    unused = replace(unused, newest=unused.newest._replace(unused=True))
    assert "promotion.model=anomaly,promotion.version=1 decides" in go_on(unused, None, "root", model="anomaly").reason


def test_the_run_ends_with_what_came_of_a_version_that_was_left():
    waiting = news(train=False, decided=False)
    ended = go_on(waiting, decision().carried_out(), "root", model="anomaly")
    assert ended.trained and ended.reason == (
        "anomaly: version 1, made with these 2 photographs, is promoted: it is better; nothing else is new"
    )
    assert "is not promoted" in go_on(waiting, decision(promoted=False).carried_out(), "root", model="anomaly").reason
    with pytest.raises(ValueError, match="others were quicker"):
        go_on(waiting, decision().outdated("others were quicker"), "root", model="anomaly")


def test_a_version_that_is_named_is_refused_since_it_would_be_passed_over():
    named = Promotion.model_construct(version=3)
    with pytest.raises(
        ValueError, match=r"promotion.version is 3.*--pipeline promotion --params promotion.model=anomaly"
    ):
        finish_earlier(news(), None, named, RETRAINING, None, None, None, None, None, model="anomaly")


def test_new_files_that_cannot_be_used_are_no_reason_to_train_and_not_new_twice():
    found, manifest = news("c", "d"), pd.DataFrame({"photo_id": ["a", "b"]})
    noted, unread = note_unusable(found, manifest, quarantined("c", "d"), found.known, RETRAINING)
    assert not unread
    assert noted["photo_id"].tolist() == ["a", "b", "c", "d"]
    ending = permit(found, manifest, noted, STABLE, RETRAINING, FOLDER)
    assert isinstance(ending, Ending) and "for 2 new photographs" in ending.reason
    one_is = pd.DataFrame({"photo_id": ["a", "b", "d"]})
    noted_of_one, _ = note_unusable(found, one_is, quarantined("c"), found.known, RETRAINING)
    assert noted_of_one["photo_id"].tolist() == ["a", "b", "c"]
    assert permit(found, one_is, noted, STABLE, RETRAINING, FOLDER) == FOLDER


def test_what_the_storage_does_not_give_for_a_while_stays_new():
    found, manifest = news("c", "d"), pd.DataFrame({"photo_id": ["a", "b", "d"]})
    quarantine, bold = quarantined("c", kind="unreadable"), Retraining(most_lost=0.5, drift=DriftCheck())
    noted, unread = note_unusable(found, manifest, quarantine, found.known, bold)
    assert noted["photo_id"].tolist() == ["a", "b"]
    assert remember(found, 7, unread, decision())["photo_id"].tolist() == ["a", "b", "d"]
    with pytest.raises(ValueError, match=r"1 of 4 photographs could be read when .* such as c: .* Run it again"):
        note_unusable(found, manifest, quarantine, found.known, RETRAINING)


def test_a_drift_warns_or_stops(caplog):
    manifest = pd.DataFrame({"photo_id": ["a", "b", "c"]})
    with caplog.at_level(logging.WARNING):
        assert permit(news("c"), manifest, manifest, drifted(), RETRAINING, FOLDER) == FOLDER
    assert "differ from the earlier ones in brightness (30 new photographs against 90 earlier ones)" in caplog.text
    strict = Retraining(drift=DriftCheck(stops=True))
    with pytest.raises(ValueError, match=r"brightness.*nothing is trained.*retraining.drift.stops=false"):
        permit(news("c"), manifest, manifest, drifted(), strict, FOLDER)
    assert permit(news("c"), manifest, manifest, STABLE, strict, FOLDER) == FOLDER


def test_the_record_is_of_all_photographs_and_of_the_version_that_was_registered():
    record = remember(news("c"), 7, frozenset(), decision())  # c is damaged, and not new a second time
    assert record["photo_id"].tolist() == ["a", "b", "c"] and (record["version"] == 7).all()


def test_the_summary_tells_news_and_drift():
    said = summarise(news("c"), drifted())
    assert said.splitlines()[0] == "of 3 photographs 1 new"
    assert "brightness  drifted    D = 0.80, medians 100 and 50" in said
    assert summarise(news("c"), STABLE) == "of 3 photographs 1 new"
