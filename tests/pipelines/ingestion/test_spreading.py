"""Parts of the stack and of the search for near-duplicates that workers do, here by an engine in this process."""

import os
from collections import Counter
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

import faulty_pairs
from crack_pipeline.datasets import PartFolderDataset
from crack_pipeline.datasets.block_folder import BlockFolder
from crack_pipeline.datasets.raw_root import LocalRoot
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.engines.local import LocalEngine
from crack_pipeline.imaging import duplicate_candidates, near_duplicates
from crack_pipeline.pipelines.ingestion import grouping, spreading
from crack_pipeline.pipelines.ingestion.parameters import Duplicates
from hostile import encoded, photograph
from small_ingestion import OWN_SIZE, assert_same, ingest, wall, write_walls

RAY = {"engine": "ray", "block": 4}


class Engine(LocalEngine):
    """Does the pieces in another order, counts them, and may be killed, or blind to some files."""

    pieces: ClassVar = Counter()
    lives: ClassVar = None
    number: ClassVar = 2
    unseen: ClassVar = ()
    working: ClassVar = False

    def __init__(self, plan):
        self.plan = plan

    def workers(self):
        return Engine.number

    def map(self, job, pieces):
        work = job.begin()
        numbers = list(range(len(pieces)))
        numbers[1:3] = numbers[1:3][::-1]
        for number in numbers:
            if Engine.lives is not None:
                Engine.lives -= 1
                if Engine.lives < 0:
                    raise KeyboardInterrupt
            Engine.pieces[type(job._job).__name__] += 1
            Engine.working = True
            done = work(pieces[number])
            Engine.working = False
            yield number, done


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    for module in (spreading, grouping):
        monkeypatch.setattr(module, "RayEngine", Engine)
        monkeypatch.setattr(module, "plan_there", lambda compute: resolve(compute.model_copy(update=PLAIN)))
    about = type("About", (), {"code": "0"})()
    monkeypatch.setattr("crack_pipeline.engines.cluster.about_here", lambda: about)
    monkeypatch.setattr("crack_pipeline.engines.cluster.join", lambda compute: None)
    monkeypatch.setattr("crack_pipeline.engines.cluster.check_everywhere", lambda tickets, patience: None)
    monkeypatch.setattr(Engine, "pieces", Counter())
    for name, value in {"lives": None, "number": 2, "unseen": (), "working": False}.items():
        monkeypatch.setattr(Engine, name, value)
    read = LocalRoot.read

    def read_there(self, path):
        if Engine.working and path.endswith(Engine.unseen):
            raise OSError(116, "Stale file handle")
        return read(self, path)

    monkeypatch.setattr(LocalRoot, "read", read_there)
    return Engine


PLAIN = {"accelerator": "cpu", "precision": "32-true"}


def test_photographs_with_masks_keep_their_sizes_and_masks(tmp_path):
    faulty_pairs.make(tmp_path / "root")
    parameters = {
        "image": OWN_SIZE,
        "reading": {"max_bad_share": 0.8},
        "presets": {"mine": {"label_from": "mask", "parts": [{"images": "images", "masks": "masks"}]}},
    }
    here = ingest(tmp_path / "root", tmp_path / "local", "mine", parameters)
    there = ingest(tmp_path / "root", tmp_path / "ray", "mine", {**parameters, "compute": RAY})
    pd.testing.assert_frame_equal(there.manifest, here.manifest)
    pd.testing.assert_frame_equal(there.quarantine, here.quarantine)
    assert len(here.photographs) == len(there.photographs) > 3
    for row in range(len(here.photographs)):
        assert np.array_equal(there.photographs.photograph(row), here.photographs.photograph(row))
        assert np.array_equal(there.photographs.mask(row), here.photographs.mask(row))


def test_what_is_killed_goes_on_and_sees_what_changed_meanwhile(engine, tmp_path):
    root = tmp_path / "root"
    write_walls(root, 30, 64)
    engine.lives = 5
    with pytest.raises(KeyboardInterrupt):
        ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, partitioned=True)
    assert engine.pieces["_Develop"] == 5
    changed = root / "Negative/wall 00000.jpg"
    content = encoded(photograph(1).resize((24, 24)), "JPEG")
    changed.write_bytes(content + bytes(changed.stat().st_size - len(content)))  # of the same size
    os.utime(changed, ns=(1, 1))
    engine.lives, engine.pieces = None, Counter()
    found = ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, partitioned=True)
    everything = Counter(engine.pieces)
    assert_same(found, ingest(root, tmp_path / "local", "folders", {}, partitioned=True))
    engine.pieces = Counter()
    ingest(root, tmp_path / "again", "folders", {"compute": RAY}, partitioned=True)
    # of the five that were done before, the changed one is done again, and perhaps its neighbour
    assert 3 <= engine.pieces["_Develop"] - everything["_Develop"] <= 4


def test_a_run_with_other_workers_takes_what_an_earlier_one_left(engine, tmp_path):
    root = tmp_path / "root"
    write_walls(root, 280, 24)

    def blocks(folder):
        engine.pieces = Counter()
        ingest(root, tmp_path / folder, "folders", {"compute": {"engine": "ray"}}, grouped=False)
        return engine.pieces["_Develop"]

    engine.lives = 6
    with pytest.raises(KeyboardInterrupt):
        blocks("killed")
    engine.lives, engine.number = None, 1
    left, others = blocks("killed"), blocks("of one")
    engine.number = 2
    assert others < blocks("of two") == left + 6


def test_what_a_worker_cannot_read_is_read_here(engine, tmp_path, caplog):
    root = tmp_path / "root"
    write_walls(root, 12, 64)
    engine.unseen = ("00003.jpg", "00008.jpg")
    found = ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, partitioned=True)
    engine.unseen = ()
    assert_same(found, ingest(root, tmp_path / "local", "folders", {}, partitioned=True))
    assert found.quarantine.empty
    assert "a worker could not read" in caplog.text


def test_a_worker_that_has_lost_the_root_does_not_end_the_run(engine, tmp_path, monkeypatch, caplog):
    root = tmp_path / "root"
    write_walls(root, 12, 64)
    content = LocalRoot._content

    def content_there(self, path):
        if Engine.working:
            raise OSError(116, "Stale file handle")
        return content(self, path)

    monkeypatch.setattr(LocalRoot, "_content", content_there)
    monkeypatch.setattr(LocalRoot, "_touch", content_there)
    found = ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, grouped=False)
    assert found.quarantine.empty
    assert len(found.manifest) == 12
    assert "cannot be read any more" in caplog.text
    assert "its block is done again" in caplog.text


def test_workers_that_have_lost_the_root_quarantine_nothing(engine, tmp_path):
    root = tmp_path / "root"
    write_walls(root, 60, 32)
    engine.unseen = tuple(f"{at:05d}.jpg" for at in range(1, 60, 2))
    with pytest.raises(RuntimeError, match=r"wall \d+.jpg cannot be read: .*Stale file handle; see whether all nodes"):
        ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, grouped=False)
    engine.unseen = ()
    found = ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, grouped=False)
    assert len(found.manifest) == 60


def test_no_photographs_are_refused_as_here(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match="there is no photograph under the root"):
        ingest(tmp_path / "root", tmp_path / "ray", "folders", {"compute": RAY}, partitioned=False)


def test_parts_are_whole_or_not_there(tmp_path):
    def broken():
        yield from ()
        raise RuntimeError("power cut")

    parts = PartFolderDataset(filepath=str(tmp_path / "parts")).load()
    with pytest.raises(RuntimeError, match="power cut"):
        parts.write("a", broken())
    assert parts.names() == set()
    with pytest.raises(FileNotFoundError):
        parts.read("a")
    (tmp_path / "parts/.b.part").mkdir()
    parts.keep(set())
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.parametrize("name", ["stack.json", "photos.parquet", "fingerprints-00000.npy"])
def test_a_part_that_was_half_forgotten_is_written_again(engine, tmp_path, name):
    root = tmp_path / "root"
    write_walls(root, 12, 32)
    parts = tmp_path / "ray/data/03_primary/ingestion/image_parts"
    engine.lives = 2
    with pytest.raises(KeyboardInterrupt):
        ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, grouped=False)
    forgotten = min(parts.glob(f"[!.]*/{name}"))
    forgotten.write_bytes(forgotten.read_bytes()[: forgotten.stat().st_size // 2])
    assert len(PartFolderDataset(filepath=str(parts)).load().names()) == 1
    engine.lives = None
    found = ingest(root, tmp_path / "ray", "folders", {"compute": RAY}, partitioned=True)
    assert_same(found, ingest(root, tmp_path / "local", "folders", {}, partitioned=True))


@pytest.fixture(scope="module")
def prints():
    """Fingerprints of walls, of some of them turned and moved, and of two that are the same and one without texture."""
    walls = [wall(seed, 72) for seed in range(60)]
    walls += [np.rot90(walls[at])[2:66, 2:66] for at in range(0, 60, 3)] + [walls[5], np.full((72, 72), 90, np.uint8)]
    cut = np.stack([np.ascontiguousarray(picture[:64, :64]) for picture in walls])
    return near_duplicates.fingerprint(cut[np.random.default_rng(0).permutation(len(cut))])


@settings(max_examples=6)
@given(part=st.integers(3, 100), band=st.integers(2, 100), at_once=st.integers(1, 50), shortlist=st.integers(1, 8))
def test_groups_are_those_found_here_however_the_work_is_cut(prints, tmp_path_factory, part, band, at_once, shortlist):
    store = BlockFolder(LocalFileSystem(), str(tmp_path_factory.mktemp("blocks")))
    options = Duplicates(candidate_similarity=0.3, shortlist=shortlist, candidates_per_image=2, workers=1)
    found = grouping.find_groups_there(
        prints, options, store, Compute(**RAY), part=part, band=band, pairs_at_once=at_once
    )
    assert found.tolist() == near_duplicates.find_groups(prints, **options.model_dump()).tolist()
    assert len(np.unique(found)) < len(found)
    assert store.names() == set()


def test_a_search_that_is_killed_goes_on(engine, prints, tmp_path):
    store, options = BlockFolder(LocalFileSystem(), str(tmp_path)), Duplicates(workers=1)

    def search():
        return grouping.find_groups_there(
            prints, options, store, Compute(**RAY), part=20, band=16, pairs_at_once=4
        ).tolist()

    expected = search()
    whole, engine.pieces = Counter(engine.pieces), Counter()
    assert whole["_Search"] == 6
    for lives in (4, 2 + 2):  # among the bands, then among the pairs
        engine.lives = lives
        with pytest.raises(KeyboardInterrupt):
            search()
    engine.lives = None
    assert search() == expected == near_duplicates.find_groups(prints, workers=1).tolist()
    assert engine.pieces == whole
    assert store.names() == set()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), limit=st.integers(1, 9))
def test_choosing_needs_no_packed_keys(seed, limit):
    rng = np.random.default_rng(seed)
    first, second = np.divmod(rng.choice(400, 150, replace=False), 20)
    pairs = duplicate_candidates.ScoredPairs(first, second + 20, first, rng.integers(0, 9, 150))
    table = np.column_stack([pairs.first, pairs.second, pairs.score])
    expected, _ = duplicate_candidates._keep_best(table, 40, limit)
    assert duplicate_candidates._best_of_either(pairs, limit).tolist() == expected.tolist()
