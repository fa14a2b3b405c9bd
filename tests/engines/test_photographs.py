import hashlib
import logging

import pyarrow as pa
import pytest

from crack_pipeline.datasets import BlockFolderDataset
from crack_pipeline.engines import Divisible, Lost, photographs
from crack_pipeline.engines.blocks import Blocks
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.engines.local import LocalEngine
from crack_pipeline.engines.photographs import each, each_kept, without_copies
from crack_pipeline.imaging.decoding import StorageLostError, Undecodable, Unreadable
from crack_pipeline.imaging.records import Record

CONTENTS = {f"{number:02d}.jpg": bytes([number]) * 9 for number in range(20)}


class Work:
    """Finds out how long files are; counts what it looks at."""

    def __init__(self, files, settings=None, broken=()):
        self.files, self.broken, self.looked_at = files, dict(broken), []
        self._settings = settings or {}

    def settings(self):
        return self._settings

    def prepare(self):
        return self

    def key(self, item):
        return hashlib.sha256(self.files[item[0]]).hexdigest() if item[0] in self.files else None

    def __call__(self, item):
        path = item[0]
        if path in self.broken:
            raise self.broken[path]
        self.looked_at.append(path)
        facts = {"image_id": self.key(item), "bytes": len(self.files[path])}
        return Record(path, self.key(item), facts, {"copy": self.files[path]})


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", workers=0))


@pytest.fixture
def store(tmp_path):
    return BlockFolderDataset(filepath=str(tmp_path / "blocks")).load()


def kept(work, plan, store, paths=None):
    items = [(path,) for path in paths or sorted(work.files)]
    return list(each_kept(work, items, plan, store, done="measured", size=4))


def test_what_is_kept_is_what_was_found(plan, store):
    fresh, stored = (kept(Work(CONTENTS), plan, place) for place in (None, store))
    assert stored == fresh
    assert [outcome.path for outcome in stored] == sorted(CONTENTS)
    assert all(outcome.found.files == {"copy": CONTENTS[outcome.path]} for outcome in stored)


def test_only_files_that_changed_and_those_that_failed_are_looked_at_again(plan, store):
    first = Work(CONTENTS, broken={"03.jpg": OSError("no route to host")})
    assert [one.path for one in kept(first, plan, store) if one.found is None] == ["03.jpg"]
    again = Work(CONTENTS | {"11.jpg": b"other bytes"})
    outcomes = kept(again, plan, store)
    assert again.looked_at == ["03.jpg", "11.jpg"]
    assert [one.found.facts["bytes"] for one in outcomes] == [11 if one.path == "11.jpg" else 9 for one in outcomes]


def test_other_settings_make_everything_anew(plan, store):
    kept(Work(CONTENTS), plan, store)
    again = Work(CONTENTS, settings={"threshold": 0.2})
    kept(again, plan, store)
    assert again.looked_at == sorted(CONTENTS)


def test_a_damaged_block_is_done_again(plan, store, tmp_path):
    kept(Work(CONTENTS), plan, store)
    damaged = sorted((tmp_path / "blocks").glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    again = Work(CONTENTS)
    assert [one.path for one in kept(again, plan, store) if one.found] == sorted(CONTENTS)
    assert 0 < len(again.looked_at) < len(CONTENTS)


def test_no_odd_photograph_costs_the_others(plan):
    broken = {
        "02.jpg": Undecodable("too small", "1 × 1 px"),
        "05.jpg": MemoryError(),
        "07.jpg": KeyError("Orientation"),
        "09.jpg": ValueError("nothing sound"),
    }
    outcomes = list(each(Work(CONTENTS, broken=broken), [(path,) for path in CONTENTS], plan, done="measured"))
    assert [outcome.path for outcome in outcomes] == list(CONTENTS)
    failed = {outcome.path: (outcome.kind, outcome.reason) for outcome in outcomes if outcome.found is None}
    assert set(failed) == set(broken)
    assert failed["02.jpg"] == ("too small", "1 × 1 px")
    assert failed["05.jpg"][0] == "memory" and "lower reading.max_pixels" in failed["05.jpg"][1]
    assert failed["07.jpg"] == ("error", "KeyError: 'Orientation'")
    assert failed["09.jpg"] == ("error", "nothing sound")


def test_copies_are_rejected_in_whichever_block_they_are(plan, store):
    files = CONTENTS | {"19_again.jpg": CONTENTS["00.jpg"], "20.jpg": CONTENTS["13.jpg"]}
    outcomes = list(without_copies(kept(Work(files), plan, store)))
    assert {one.path: one.reason for one in outcomes if one.found is None} == {
        "19_again.jpg": "same bytes as 00.jpg",
        "20.jpg": "same bytes as 13.jpg",
    }


class Keeper:
    """Keeps files in memory."""

    def __init__(self, fails=None):
        self.files, self.fails = {}, fails or {}

    def put(self, record, name):
        if record.path in self.fails:
            raise self.fails[record.path]
        self.files |= {(name, kind): content for kind, content in record.files.items()}
        return record.written(name, record.facts)

    def drop(self, record):
        for kind in record.files:
            del self.files[record.place, kind]


def kept_by(keeper, work, plan, store):
    items = [(path, f"{path}.png") for path in sorted(work.files)]
    options = {"done": "measured", "size": 4, "identify": lambda item: item[:1], "keeper": keeper}
    return list(without_copies(each_kept(work, items, plan, store, **options), keeper))


@pytest.mark.parametrize("stored", [True, False])
def test_a_keeper_gets_the_files_and_the_caller_what_is_left_to_tell(plan, store, stored):
    files, place = CONTENTS | {"12.jpg": CONTENTS["03.jpg"]}, store if stored else None
    keeper = Keeper()
    outcomes = kept_by(keeper, Work(files, broken={"05.jpg": ValueError("odd")}), plan, place)
    assert {one.path: one.kind for one in outcomes if one.found is None} == {"05.jpg": "error", "12.jpg": "copy"}
    found = [one.found for one in outcomes if one.found is not None]
    assert all(one.place == f"{one.path}.png" and one.files == {"copy": b""} and one.facts["bytes"] for one in found)
    expected = {(f"{path}.png", "copy"): content for path, content in files.items() if path not in ("05.jpg", "12.jpg")}
    assert keeper.files == expected
    again, later = Work(files), Keeper()
    kept_by(later, again, plan, place)
    assert again.looked_at == (["05.jpg"] if stored else sorted(files))
    assert later.files.items() >= expected.items()


def test_where_nothing_can_be_written_the_run_ends_and_where_one_cannot_it_is_left_out(plan, store):
    for failure in (OSError(28, "No space left on device"), Undecodable("name", "too long")):
        keeper = Keeper({"03.jpg": failure})
        for place in (store, None):
            if isinstance(failure, OSError):
                with pytest.raises(photographs.NotKeptError, match=r"of 03\.jpg cannot be written: .*No space left"):
                    kept_by(keeper, Work(CONTENTS), plan, place)
            else:
                failed = [one for one in kept_by(keeper, Work(CONTENTS), plan, place) if one.found is None]
                assert [(one.path, one.kind) for one in failed] == [("03.jpg", "name")]


def test_blocks_that_nobody_changed_are_not_written_again(plan, store, monkeypatch):
    kept(Work(CONTENTS), plan, store)
    monkeypatch.setattr(type(store), "write", lambda *_: pytest.fail("it was written again"))
    assert len(kept(Work(CONTENTS), plan, store)) == 20


@pytest.mark.parametrize("way", ["stored", "in memory", "by a keeper"])
def test_of_a_block_that_was_taken_apart_only_what_ended_its_worker_is_left_out(plan, store, way):
    place, keeper = (None if way == "in memory" else store), (Keeper() if way == "by a keeper" else None)
    job = photographs._Keeping(Work(CONTENTS), "measured", place, keeper)
    assert isinstance(job, Divisible)
    block = Blocks([(path, f"{path}.png") for path in sorted(CONTENTS)], 20, {})[0]
    work = job.alone().begin()
    results = [Lost() if part.items[0][0] == "03.jpg" else work(part) for part in job.parts(block)]
    table = job.joined(block, results)
    if way == "stored":
        assert table is None
        table = store.read(block.name)
    assert (store.names() == {block.name}) == (way == "stored")
    outcomes = photographs._outcomes(table)
    assert [one.path for one in outcomes] == [item[0] for item in block.items]
    assert [(one.path, one.kind) for one in outcomes if one.found is None] == [("03.jpg", "lost")]
    assert "compute.cores" in next(one.reason for one in outcomes if one.found is None)


class Elsewhere(LocalEngine):
    """Does pieces as a worker of a cluster would, which cannot read some files; everything here can."""

    def __init__(self, work):
        self.work, self.broken = work, work.broken

    def map(self, job, pieces):
        self.work.broken = self.broken
        for piece in super().map(job, pieces):
            self.work.broken = {}
            yield piece
            self.work.broken = self.broken


STALE = OSError(116, "Stale file handle")
UNREAD = [STALE, Unreadable("unreadable", "cannot be read: timed out"), StorageLostError("/photographs cannot be read")]


@pytest.mark.parametrize("way", ["each", "stored", "in memory", "by a keeper"])
@pytest.mark.parametrize("why", UNREAD, ids=["OSError", "Unreadable", "StorageLostError"])
def test_what_a_worker_cannot_read_is_looked_at_here(plan, store, monkeypatch, caplog, way, why):
    work = Work(CONTENTS, broken={"03.jpg": why, "05.jpg": Undecodable("damaged", "no end")})
    monkeypatch.setattr(photographs, "engine_of", lambda _: Elsewhere(work))
    spread = plan.model_copy(update={"engine": "ray"})
    keeper = Keeper()
    if way == "each":
        outcomes = list(each(work, [(path,) for path in CONTENTS], spread, done="measured", size=4))
    elif way == "by a keeper":
        outcomes = kept_by(keeper, work, spread, store)
        assert keeper.files["03.jpg.png", "copy"] == CONTENTS["03.jpg"]
    else:
        outcomes = kept(work, spread, store if way == "stored" else None)
    assert [(one.path, one.kind) for one in outcomes if one.found is None] == [("05.jpg", "damaged")]
    assert sorted(work.looked_at) == sorted(set(CONTENTS) - {"05.jpg"})
    assert caplog.text.count("a worker could not read 03.jpg") == 1
    assert "05.jpg" not in caplog.text


def test_what_can_be_read_nowhere_is_left_out_and_a_lost_root_ends_the_run(plan, monkeypatch):
    work = Work(CONTENTS, broken={"03.jpg": STALE})
    monkeypatch.setattr(photographs, "engine_of", lambda _: LocalEngine())
    spread = plan.model_copy(update={"engine": "ray"})
    outcomes = kept(work, spread, None)
    assert [(one.path, one.kind) for one in outcomes if one.found is None] == [("03.jpg", "error")]
    work.broken = {"03.jpg": StorageLostError("/photographs cannot be read any more")}
    with pytest.raises(StorageLostError):
        kept(work, spread, None)


def test_workers_that_have_lost_the_root_leave_nothing_out(plan, store, monkeypatch):
    work = Work(CONTENTS, broken=dict.fromkeys(CONTENTS, STALE))
    monkeypatch.setattr(photographs, "engine_of", lambda _: Elsewhere(work))
    monkeypatch.setattr(photographs, "_FORGIVEN", 5)
    with pytest.raises(RuntimeError, match=r"05\.jpg .*Stale file handle; see whether all nodes still reach the root"):
        kept(work, plan.model_copy(update={"engine": "ray"}), store)
    again = Work(CONTENTS)
    assert all(one.found for one in kept(again, plan, store))


def test_a_table_of_other_photographs_is_refused(plan, store, monkeypatch):
    monkeypatch.setattr(photographs, "_look_at", lambda look, items, done, spread: [])
    with pytest.raises(RuntimeError, match=r"00\.jpg is missing"):
        kept(Work(CONTENTS), plan, store)


def test_the_log_says_how_far_it_is(plan, caplog):
    with caplog.at_level(logging.INFO, photographs.__name__):
        list(each(Work(CONTENTS, broken={"02.jpg": MemoryError()}), [(path,) for path in CONTENTS], plan, done="seen"))
    assert "seen 20 of 20 photographs (1 left out)" in caplog.text


def test_no_photographs_give_nothing(plan, store):
    assert list(each(Work({}), [], plan, done="seen")) == []
    assert list(each_kept(Work({}), [], plan, store, done="seen", size=4)) == []


def test_blocks_are_tables_that_anyone_can_read(plan, store, tmp_path):
    kept(Work(CONTENTS), plan, store)
    table = pa.concat_tables(store.read(name) for name in store.names())
    assert sorted(table["path"].to_pylist()) == sorted(CONTENTS)
    assert not [path for path in (tmp_path / "blocks").iterdir() if path.suffix != ".parquet"]
