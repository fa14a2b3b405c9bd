import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.datasets import BlockFolderDataset
from crack_pipeline.engines.blocks import Blocks, in_order, tables
from crack_pipeline.engines.local import LocalEngine

names = st.sets(st.integers(0, 10_000), max_size=60).map(lambda numbers: [str(number) for number in numbers])
few = settings(max_examples=40)


class Backwards:
    """An engine whose last piece is done first."""

    def map(self, job, pieces):
        work = job.begin()
        yield from ((number, work(pieces[number])) for number in reversed(range(len(pieces))))


class Forgetful:
    def map(self, job, pieces):
        yield from list(LocalEngine().map(job, pieces))[:-1]


class Doubling:
    def map(self, job, pieces):
        for one in LocalEngine().map(job, pieces):
            yield one
            yield one


class Lengths:
    """A job that counts how often it is done."""

    def __init__(self, ends_after=None):
        self.done, self.ends_after = [], ends_after

    def begin(self):
        def work(block):
            if len(self.done) == self.ends_after:
                raise KeyboardInterrupt
            self.done.append(block.name)
            return pa.table({"name": [item[0] for item in block.items]})

        return work


@pytest.fixture
def store(tmp_path):
    return BlockFolderDataset(filepath=str(tmp_path / "blocks")).load()


def cut(paths, size=8, **decides):
    return Blocks([(path,) for path in paths], size, decides)


def listed(found):
    return [name for table in found for name in table["name"].to_pylist()]


@few
@given(names, st.integers(1, 20))
def test_blocks_hold_every_item_once_and_in_order(paths, size):
    blocks = cut(paths, size)
    assert [item[0] for block in blocks for item in block.items] == paths
    lengths = [len(block.items) for block in blocks]
    assert all(max(1, size // 2) <= length <= 2 * size for length in lengths[:-1])
    assert all(lengths)
    assert cut(paths, size).names == blocks.names


@few
@given(names, st.integers(0, 60))
def test_another_item_changes_no_block_before_it(paths, at):
    before, after = cut(paths, 4), cut([*paths[:at], "a new one", *paths[at:]], 4)
    ends = np.cumsum([len(block.items) for block in before])
    kept = [name for name, end in zip(before.names[:-1], ends[:-1], strict=True) if end <= at]
    assert after.names[: len(kept)] == kept


def test_most_blocks_stay_where_one_photograph_is_new():
    paths = [f"photographs/{number:05d}.jpg" for number in range(2000)]
    before = set(cut(paths, 16).names)
    after = cut([*paths[:700], "photographs/00700_new.jpg", *paths[700:]], 16).names
    assert len(set(after) - before) <= 4


@few
@given(names)
def test_other_settings_give_other_blocks(paths):
    assert not set(cut(paths).names) & set(cut(paths, threshold=0.4).names)


def test_results_come_in_the_order_of_the_blocks_whoever_does_them():
    blocks = cut([str(number) for number in range(50)])
    assert listed(in_order(Backwards(), Lengths(), blocks)) == [str(number) for number in range(50)]


@pytest.mark.parametrize(("engine", "message"), [(Forgetful(), "are missing"), (Doubling(), "done twice")])
def test_an_engine_that_loses_or_repeats_a_block_is_found_out(engine, message, store):
    blocks = cut([str(number) for number in range(50)])
    with pytest.raises(RuntimeError, match=message):
        list(in_order(engine, Lengths(), blocks))
    with pytest.raises(RuntimeError, match=message):
        list(tables(engine, Lengths(), blocks, store))


@pytest.mark.parametrize("engine", [LocalEngine(), Backwards()])
def test_a_run_that_is_started_again_does_only_what_is_missing(store, engine):
    paths = [str(number) for number in range(60)]
    blocks = cut(paths)
    killed = Lengths(ends_after=3)
    with pytest.raises(KeyboardInterrupt):
        list(tables(engine, killed, blocks, store))
    assert store.names() == set(killed.done)
    again = Lengths()
    assert listed(tables(engine, again, blocks, store)) == paths
    assert sorted([*killed.done, *again.done]) == sorted(blocks.names)
    nothing = Lengths()
    assert listed(tables(engine, nothing, blocks, store)) == paths
    assert nothing.done == []


def test_blocks_of_other_runs_go_when_a_run_is_complete(store):
    list(tables(LocalEngine(), Lengths(), cut(["a", "b"], 1), store))
    blocks = cut(["b", "c"], 1)
    list(tables(LocalEngine(), Lengths(), blocks, store))
    assert store.names() == set(blocks.names)


def test_without_a_store_tables_come_back_in_order():
    blocks = cut([str(number) for number in range(30)])
    assert listed(tables(Backwards(), Lengths(), blocks, None)) == [str(number) for number in range(30)]
