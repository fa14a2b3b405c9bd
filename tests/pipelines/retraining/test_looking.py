import pandas as pd
import pytest

from crack_pipeline.models.registered import Contenders, Newest, Registered
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Presets, Reading
from crack_pipeline.pipelines.retraining.looking import LABEL, LOST, MASK, NEW, as_record, compare, fingerprint_of, look
from crack_pipeline.pipelines.retraining.parameters import DriftCheck, Retraining

PRESETS = Presets.model_validate(
    {
        "folders": {"classes": {"normal": ["sound"], "crack": ["crack"]}, "mask_folders": ["masks"]},
        "pairs": {"label_from": "mask", "parts": [{"images": "images", "masks": "masks"}]},
    }
)
FILES = {f"sound/{n}.png": f"sound {n}".encode() for n in range(6)} | {
    f"crack/{n}.png": f"crack {n}".encode() for n in range(4)
}
MASKED = {f"images/{n}.png": f"photo {n}".encode() for n in range(5)} | {
    f"masks/{n}.png": f"mask {n}".encode() for n in range(5)
}


class Root:
    """Files in memory; counts what is read."""

    name = "root"

    def __init__(self, files):
        self.files, self.read_paths = files, []

    def list(self):
        return [(path, len(data), "", "") for path, data in sorted(self.files.items())]

    def read(self, path):
        self.read_paths.append(path)
        if self.files[path] == b"broken":
            raise OSError("broken")
        return self.files[path]


class Models:
    """A registry with one version, or none."""

    def __init__(self, version=1, *, decided=True, photographs=None, **facts):
        self.found = version and Newest(version, decided, photographs)
        self.facts = facts

    def newest(self, model):
        return self.found

    def contenders(self, model, version=None):
        return Contenders(model, Registered(self.found.version, Weights({}, self.facts)), None, False, False)


def looked(root, registry, record=None, manifest=None, partition=None, *, dataset="folders", image=None, **options):
    retraining = Retraining(drift=DriftCheck(), **options)
    return look(
        root,
        record,
        manifest,
        partition,
        registry,
        Dataset(dataset),
        PRESETS,
        Reading(threads=2),
        image or Image(),
        retraining,
        model="anomaly",
    )


def found_in(files, **more):
    return looked(Root(files), Models(None), **more)[0].photographs


def record_of(files, version=1, **more):
    return as_record(found_in(files, **more), version)


def kinds(news):
    return news.changes["change"].value_counts().to_dict()


def ingested(files, roles=None):
    """Manifest and partition of files, and what a model that was trained on them says of them."""
    table = found_in(files)
    roles = roles or ["train", "validation", "external"]
    manifest = table.assign(image_id=table["photo_id"])[["image_id", "photo_id", "path", "label", "mask_path"]]
    partition = pd.DataFrame(
        {"image_id": table["photo_id"], "role": [roles[place % len(roles)] for place in range(len(table))]}
    )
    counts = (partition["role"] + " " + manifest["label"]).value_counts().to_dict()
    learned = manifest.loc[partition["role"].isin(["train", "validation"]), "photo_id"]
    return manifest, partition, {"learned_from": sorted(learned), "data": {"images": len(table), "roles": counts}}


def test_without_a_version_everything_is_new_and_trained_on():
    news, known = looked(Root(FILES), Models(None))
    assert (news.train, news.pending, kinds(news)) == (True, False, {NEW: 10})
    assert known.empty and len(news.new) == 10
    assert news.tags == {
        "retraining.photographs": news.fingerprint,
        "retraining.news": "of 10 photographs 10 new",
    }


def test_what_was_decided_about_is_not_trained_again():
    news, known = looked(Root(FILES), Models(), record_of(FILES))
    assert (news.train, news.pending, news.said) == (False, False, "nothing is new")
    assert len(known) == 10


def test_what_was_registered_without_a_decision_waits_for_one():
    news, _ = looked(Root(FILES), Models(decided=False), record_of(FILES), *ingested(FILES)[:2])
    assert (news.train, news.pending) == (False, True)


def test_a_run_that_was_killed_between_registration_and_decision_is_gone_on_with():
    """The record is of before, and so says that there is news; the version knows what it was made with."""
    more = FILES | {"sound/new.png": b"new"}
    made_with = fingerprint_of(found_in(more))
    tables = ingested(more)[:2]
    news, known = looked(Root(more), Models(2, decided=False, photographs=made_with), record_of(FILES), *tables)
    assert (news.train, news.pending, kinds(news)) == (False, True, {NEW: 1})
    assert len(known) == 10  # until the decision is there
    news, known = looked(Root(more), Models(2, photographs=made_with), record_of(FILES))
    assert (news.train, news.pending, kinds(news)) == (False, False, {})
    assert len(known) == 11 and (known["version"] == 2).all()


def test_a_run_that_was_killed_before_registration_begins_again_whatever_it_had_ingested():
    more = FILES | {"sound/new.png": b"new"}
    manifest, partition, _ = ingested(more)
    news, _ = looked(Root(more), Models(1, photographs="of before"), record_of(FILES), manifest, partition)
    assert (news.train, kinds(news)) == (True, {NEW: 1})


def test_a_version_that_was_trained_by_hand_is_known_by_what_was_ingested_for_it():
    more = FILES | {"crack/new.png": b"new"}
    manifest, partition, facts = ingested(FILES)
    news, known = looked(Root(more), Models(**facts), None, manifest, partition)
    assert (news.train, kinds(news)) == (True, {NEW: 1})
    assert len(known) == 10 and (known["version"] == 1).all()


@pytest.mark.parametrize("other", ["more", "fewer", "other roles", "nothing"])
def test_an_ingestion_that_is_not_that_of_the_version_is_not_believed(other):
    more = FILES | {f"crack/new{n}.png": f"new {n}".encode() for n in range(3)}
    _, _, facts = ingested(FILES)
    manifest, partition, _ = ingested(more)
    if other == "fewer":
        manifest, partition, _ = ingested({path: data for path, data in FILES.items() if path.startswith("sound")})
    elif other == "other roles":
        manifest, partition, _ = ingested(FILES, ["external", "train", "validation"])
    elif other == "nothing":
        manifest = partition = None
    news, known = looked(Root(more), Models(**facts), None, manifest, partition)
    assert news.train and kinds(news) == {NEW: 13} and known.empty


def test_what_was_moved_or_copied_is_not_new():
    moved = {path.replace("sound/", "sound/2024/"): data for path, data in FILES.items()}
    news, _ = looked(Root(moved | {"crack/copy.png": FILES["crack/1.png"]}), Models(), record_of(FILES))
    assert not news.train and kinds(news) == {}


def test_another_label_is_news():
    files = {path: data for path, data in FILES.items() if path != "sound/1.png"} | {
        "crack/9.png": FILES["sound/1.png"]
    }
    news, _ = looked(Root(files), Models(), record_of(FILES))
    assert news.train and news.changes.values.tolist() == [[LABEL, "crack/9.png", "normal", "crack"]]
    copied = FILES | {"crack/9.png": FILES["sound/1.png"]}  # nobody knows any more which is right
    assert kinds(looked(Root(copied), Models(), record_of(FILES))[0]) == {LABEL: 1}


def test_another_mask_is_news_where_masks_matter():
    known = record_of(MASKED, dataset="pairs")
    redrawn = MASKED | {"masks/2.png": b"mask Z"}
    news, _ = looked(Root(redrawn), Models(), known, dataset="pairs")
    assert news.train and news.changes[["change", "path"]].values.tolist() == [[MASK, "images/2.png"]]
    assert fingerprint_of(news.photographs) != fingerprint_of(found_in(MASKED, dataset="pairs"))
    with_mask = FILES | {"masks/crack/1.png": b"mask"}
    changed = with_mask | {"masks/crack/1.png": b"other"}
    assert not looked(Root(changed), Models(), record_of(with_mask))[0].train
    image = Image(size=None, masks=True)
    assert looked(Root(changed), Models(), record_of(with_mask, image=image), image=image)[0].train


def test_a_mask_that_was_drawn_later_is_news_and_one_that_is_gone_or_cannot_be_read_is_none(caplog):
    image = Image(size=None, masks=True)
    before = record_of(FILES, image=image)
    drawn = FILES | {"masks/crack/1.png": b"mask"}
    news, _ = looked(Root(drawn), Models(), before, image=image)
    assert news.train and news.changes[["change", "path"]].values.tolist() == [[MASK, "crack/1.png"]]
    assert not looked(Root(FILES), Models(), record_of(drawn, image=image), image=image)[0].train
    broken = drawn | {"masks/crack/1.png": b"broken"}
    assert not looked(Root(broken), Models(), record_of(drawn, image=image), image=image)[0].train
    assert "1 masks cannot be read" in caplog.text


def test_a_mask_that_was_drawn_after_a_training_by_hand_is_news():
    drawn = {"masks/crack/1.png": b"mask"}
    manifest, partition, facts = ingested(FILES)
    news, _ = looked(
        Root(FILES | drawn), Models(**facts), None, manifest, partition, image=Image(size=None, masks=True)
    )
    assert kinds(news) == {MASK: 1}


def test_what_a_version_was_made_with_that_somebody_has_deleted_is_new_again(caplog):
    """Otherwise nothing would be trained on it, and nothing be in use."""
    more = FILES | {"sound/new.png": b"new"}
    news, known = looked(Root(more), Models(1, photographs="of before"), record_of(more, version=2))
    assert (news.train, kinds(news)) == (True, {NEW: 11}) and known.empty
    assert (
        "version 2 of anomaly, which the record of known photographs is of, is in the registry no longer" in caplog.text
    )
    made_with = fingerprint_of(found_in(more))
    news, known = looked(Root(more), Models(1, photographs=made_with), record_of(more, version=2))
    assert not news.train and (known["version"] == 1).all()
    assert looked(Root(more), Models(None), record_of(more))[0].said == "of 11 photographs 11 new"


def test_what_cannot_be_decided_about_is_trained_again(caplog):
    made_with, tables = fingerprint_of(found_in(FILES)), ingested(FILES)[:2]
    waiting = Models(2, decided=False, photographs=made_with)
    assert looked(Root(FILES), waiting, record_of(FILES), *tables)[0].pending
    news, _ = looked(Root(FILES), waiting, record_of(FILES), tables[0], None)
    assert (news.train, news.pending, kinds(news)) == (True, False, {NEW: 10})
    assert "what was ingested for version 2 of anomaly is gone" in caplog.text


def test_losses_alone_are_no_reason_to_train_and_many_are_an_error(caplog):
    known = record_of(FILES)
    fewer = {path: data for path, data in FILES.items() if path != "crack/3.png"}
    news, kept = looked(Root(fewer), Models(), known)
    assert not news.train and kinds(news) == {LOST: 1} and len(kept) == 10
    assert "1 of 10 known photographs are gone, such as crack/3.png" in caplog.text
    assert looked(Root(fewer | {"crack/9.png": b"9"}), Models(), known)[0].train
    elsewhere = {"sound/a.png": b"a", "crack/b.png": b"b"}
    with pytest.raises(ValueError, match=r"10 of 10 known photographs are gone.*under one root.*most_lost"):
        looked(Root(elsewhere), Models(), known)
    assert looked(Root(elsewhere), Models(), known, most_lost=1.0)[0].train


def test_files_of_known_path_and_size_are_not_read_where_that_is_enough():
    known, root = record_of(FILES), Root(FILES | {"sound/new.png": b"new", "crack/1.png": b"another size"})
    news, _ = looked(root, Models(), known, reread=False, most_lost=0.5)
    assert sorted(root.read_paths) == ["crack/1.png", "sound/new.png"]
    assert kinds(news) == {NEW: 2, LOST: 1}
    same = Root(FILES)
    assert looked(same, Models(), known)[0].photographs.equals(
        looked(Root(FILES), Models(), known, reread=False)[0].photographs
    )
    assert len(same.read_paths) == 10


def test_a_file_that_cannot_be_read_is_left_out(caplog):
    news, _ = looked(Root(FILES | {"sound/new.png": b"broken"}), Models(), record_of(FILES))
    assert not news.train
    assert "1 photographs cannot be read" in caplog.text


def test_fingerprint_depends_on_contents_and_labels_alone():
    one = found_in(FILES)
    assert fingerprint_of(one.iloc[::-1].assign(path="elsewhere")) == fingerprint_of(one)
    assert fingerprint_of(one.iloc[1:]) != fingerprint_of(one)
    assert fingerprint_of(one.assign(label="crack")) != fingerprint_of(one)
    assert compare(one, one).empty
