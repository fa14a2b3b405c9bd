import json
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crack_pipeline.pipelines.ingestion.partition import ROLES, Partition, assign_roles, check_disjoint, remember_roles

HALVES = {"train": 0.5, "validation": 0.2, "test": 0.3}
BOTH_IN_TRAIN = Partition(normal=HALVES, crack=HALVES)


def a_manifest(labels, groups, prefix="i", **columns):
    ids = [f"{prefix}{k:05d}" for k in range(len(labels))]
    return pd.DataFrame({"image_id": ids, "label": labels, "group": np.asarray(groups, dtype=np.int64), **columns})


def of_sizes(normal, crack, prefix="i", first_group=0):
    """Build a manifest of groups of one label each, from the sizes of the groups."""
    labels = ["normal"] * sum(normal) + ["crack"] * sum(crack)
    groups = np.repeat(np.arange(len(normal) + len(crack)) + first_group, [*normal, *crack])
    return a_manifest(labels, groups, prefix)


def counts(manifest, partition):
    table = manifest.merge(partition, on="image_id")
    return table.groupby(["label", "role"]).size().to_dict()


@st.composite
def manifests(draw):
    """At least 30 groups, some large, some with both labels."""
    n = draw(st.integers(60, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = rng.integers(0, n // 2, n) if draw(st.booleans()) else rng.geometric(0.05, n)
    groups[: n // 2] = np.arange(n // 2) + 1000
    labels = rng.choice(["normal", "crack"], n, p=[0.5, 0.5])
    labels[:20], labels[20:30] = "crack", "normal"
    return a_manifest(labels, groups)


# --- the published protocol and its shares


def test_the_defaults_are_the_published_protocol():
    manifest = of_sizes([1] * 20_000, [1] * 20_000)
    partition = assign_roles(manifest, None, Partition())
    assert counts(manifest, partition) == {
        ("normal", "external"): 5_000,
        ("normal", "train"): 12_000,
        ("normal", "validation"): 1_500,
        ("normal", "test"): 1_500,
        ("crack", "external"): 15_000,
        ("crack", "validation"): 500,
        ("crack", "test"): 4_500,
    }
    table = check_disjoint(manifest, partition)
    assert table["images"].sum() == table["groups"].sum() == 40_000
    assert list(table["role"])[:2] == ["train", "validation"]


def test_counts_and_rest_are_kept():
    partition = Partition(
        normal={"train": 20, "validation": 5, "external": "rest"}, crack={"validation": 7, "left_out": "rest"}
    )
    manifest = of_sizes([1] * 40, [1] * 30)
    assert counts(manifest, assign_roles(manifest, None, partition)) == {
        ("normal", "train"): 20,
        ("normal", "validation"): 5,
        ("normal", "external"): 15,
        ("crack", "validation"): 7,
        ("crack", "left_out"): 23,
    }


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.5, "test": 0.4}, "sum to 0.9"),
        ({"train": 1.5}, "1.5 is out of range"),
        ({"train": -1}, "-1 is out of range"),
        ({"train": float("nan")}, "nan is out of range"),
        ({"train": True}, "True is not a share"),
        ({"train": "most"}, "'most' is not a share"),
        ({"train": "rest", "test": "rest"}, "train and test"),
        ({"train": 1}, "written 1.0"),
        ({"train": "rest", "test": 0.7, "external": 0.4}, "more than 1"),
        ({}, "sum to 0"),
        ({"training": 1.0}, "'train', 'validation'"),
    ],
)
def test_wrong_shares_are_named(shares, message):
    with pytest.raises(ValidationError, match=message):
        Partition(normal=shares)


def test_parameters_survive_json_and_name_their_rule():
    partition = Partition(normal={"train": 3, "test": "rest"}, seed=5)
    again = Partition.model_validate(json.loads(partition.model_dump_json()))
    assert again == partition and again.rule == partition.rule
    assert partition.rule == Partition(normal={"test": "rest", "train": 3}, seed=5).rule
    assert partition.rule != Partition(normal={"train": 3, "test": "rest"}).rule
    with pytest.raises(ValidationError):
        Partition(sead=1)


@given(n=st.integers(4, 5_000))
def test_targets_sum_and_forget_no_role(n):
    targets = Partition().targets("normal", n)
    assert sum(targets.values()) == n
    assert min(targets.values()) >= 1
    assert all(abs(targets[role] - Partition().normal[role] * n) < 4 for role in targets)


# --- what holds whatever the images are


@settings(max_examples=20)
@given(manifest=manifests(), seed=st.integers(0, 9), shuffle=st.randoms(use_true_random=False))
def test_groups_stay_whole_and_order_does_not_matter(manifest, seed, shuffle):
    partition = Partition(normal=HALVES, crack=HALVES, seed=seed)
    roles = assign_roles(manifest, None, partition)
    check_disjoint(manifest, roles)
    assert manifest.merge(roles, on="image_id").groupby("group_x")["role"].nunique().max() == 1
    assert set(roles["role"]) == {"train", "validation", "test"}

    order = list(range(len(manifest)))
    shuffle.shuffle(order)
    renumbered = manifest.assign(group=manifest["group"] * 7 % 5003).iloc[order]
    again = assign_roles(renumbered, None, partition)
    pd.testing.assert_frame_equal(again.drop(columns="group"), roles.drop(columns="group"))


@settings(max_examples=40)
@given(
    normal=st.lists(st.one_of(st.just(1), st.integers(1, 30)), min_size=8, max_size=60),
    crack=st.lists(st.one_of(st.just(1), st.integers(1, 30)), min_size=8, max_size=60),
    seed=st.integers(0, 9),
)
def test_counts_end_within_the_largest_group_of_their_targets(normal, crack, seed):
    partition = Partition(seed=seed)
    manifest = of_sizes(normal, crack)
    got = counts(manifest, assign_roles(manifest, None, partition))
    for label, sizes in (("normal", normal), ("crack", crack)):
        for role, target in partition.targets(label, sum(sizes)).items():
            assert abs(got[label, role] - target) <= max(sizes)


def test_one_huge_group_does_not_swamp_a_small_role():
    for seed in range(20):
        manifest = of_sizes([60] + [1] * 340, [1] * 40)
        got = counts(manifest, assign_roles(manifest, None, Partition(seed=seed)))
        assert got["normal", "validation"] == got["normal", "test"] == 30


def test_seed_changes_the_draw():
    manifest = of_sizes([1] * 50, [1] * 50)
    one, other = (assign_roles(manifest, None, Partition(seed=seed)) for seed in (0, 1))
    assert (one["role"] != other["role"]).any()


@settings(max_examples=20)
@given(manifest=manifests(), cut=st.floats(0.75, 1), shuffle=st.randoms(use_true_random=False))
def test_known_images_keep_their_role_when_images_are_added(manifest, cut, shuffle):
    order = list(range(len(manifest)))
    shuffle.shuffle(order)
    before = manifest.iloc[sorted(order[: int(cut * len(order))])]
    known = assign_roles(before, None, BOTH_IN_TRAIN)
    extended = assign_roles(manifest, known, BOTH_IN_TRAIN)
    check_disjoint(manifest, extended)
    kept = known.merge(extended, on="image_id")
    assert (kept["role_x"] == kept["role_y"]).all()
    again = assign_roles(manifest.iloc[order], extended, BOTH_IN_TRAIN)
    pd.testing.assert_frame_equal(again.drop(columns="group"), extended.drop(columns="group"))
    # A new image of a known group is where its group is.
    group_role = extended.merge(manifest, on="image_id").groupby("group_y")["role"].nunique()
    assert group_role.max() == 1


def test_additions_restore_the_shares():
    first = of_sizes([1] * 100, [1] * 100)
    more = pd.concat([first, of_sizes([1] * 300, [1] * 100, prefix="j", first_group=1000)])
    got = counts(more, assign_roles(more, assign_roles(first, None, Partition()), Partition()))
    for label, n in (("normal", 400), ("crack", 200)):
        for role, target in Partition().targets(label, n).items():
            assert got[label, role] == target


# --- groups of both labels


def test_a_group_of_both_labels_goes_where_both_may_be():
    labels = ["normal", "crack"] * 40 + ["normal"] * 200
    manifest = a_manifest(labels, [*np.repeat(np.arange(40), 2), *range(100, 300)])
    roles = assign_roles(manifest, None, Partition())
    check_disjoint(manifest, roles)
    table = manifest.merge(roles, on="image_id")
    assert "train" not in set(table.loc[table["label"] == "crack", "role"])
    assert set(table.loc[table["label"] == "crack", "role"]) == {"external", "validation", "test"}


def test_a_group_of_both_labels_is_left_out_where_no_role_takes_both(caplog):
    manifest = a_manifest(["normal", "crack", "normal", "normal", "crack"], [1, 1, 2, 3, 4])
    roles = assign_roles(manifest, None, Partition(normal={"train": 1.0}, crack={"test": 1.0}))
    assert list(roles["role"]) == ["left_out", "left_out", "train", "train", "test"]
    assert "2 images are left out" in caplog.text


def test_tiles_whose_photographs_all_show_both_labels_are_shared_out():
    labels = np.tile(["normal", "normal", "crack"], 60)
    manifest = a_manifest(labels, np.repeat(np.arange(60), 3))
    got = counts(manifest, assign_roles(manifest, None, BOTH_IN_TRAIN))
    assert got["normal", "train"] == 60 and got["crack", "train"] == 30
    with pytest.raises(ValueError, match=r"role train.*120 images in groups that hold both labels"):
        assign_roles(manifest, None, Partition())


# --- carried on


@pytest.fixture
def two_roles():
    """A partition with one image of group 1 in train and one of group 2 in test, and enough others."""
    manifest = of_sizes([1] * 40, [1] * 40)
    known = assign_roles(manifest, None, Partition())
    table = manifest.merge(known[["image_id", "role"]], on="image_id")
    in_train, in_test = (
        table.loc[(table["role"] == role) & (table["label"] == "normal"), "image_id"].iloc[0]
        for role in ("train", "test")
    )
    return manifest, known, in_train, in_test


def test_a_new_image_that_bridges_two_roles_is_left_out(two_roles, caplog):
    manifest, known, in_train, in_test = two_roles
    bridged = pd.concat([manifest, a_manifest(["normal", "normal"], [900, 900], prefix="new")])
    bridged.loc[bridged["image_id"].isin([in_train, in_test]), "group"] = 900
    roles = assign_roles(bridged, known, Partition())
    check_disjoint(bridged, roles)
    row = roles.set_index("image_id")
    assert row.loc[in_train, "role"] == "train" and row.loc[in_test, "role"] == "test"
    assert list(row.loc[["new00000", "new00001"], "role"]) == ["left_out", "left_out"]
    assert row.loc[[in_train, in_test, "new00000", "new00001"], "group"].nunique() == 4
    assert roles["group"].nunique() == 82
    assert "2 images are left out" in caplog.text

    again = assign_roles(bridged, roles, Partition())
    pd.testing.assert_frame_equal(again, roles)


def test_known_images_that_turn_out_to_be_copies_of_each_other_do_not_leak(two_roles, caplog):
    manifest, known, in_train, in_test = two_roles
    regrouped = manifest.copy()
    regrouped.loc[regrouped["image_id"].isin([in_train, in_test]), "group"] = 900
    roles = assign_roles(regrouped, known, Partition())
    check_disjoint(regrouped, roles)
    row = roles.set_index("image_id")["role"]
    assert row[in_test] == "test" and row[in_train] == "left_out"
    assert "1 images are left out" in caplog.text


def test_a_new_image_is_left_out_where_its_label_has_no_share(two_roles):
    manifest, known, in_train, in_test = two_roles
    more = pd.concat([manifest, a_manifest(["crack", "crack"], [901, 902], prefix="new")])
    more.loc[more["image_id"] == in_train, "group"] = 901
    more.loc[more["image_id"] == in_test, "group"] = 902
    roles = assign_roles(more, known, Partition())
    check_disjoint(more, roles)
    assert list(roles.set_index("image_id").loc[["new00000", "new00001"], "role"]) == ["left_out", "test"]


def test_other_parameters_draw_anew_and_say_so(two_roles, caplog):
    manifest, known, *_ = two_roles
    with caplog.at_level(logging.WARNING):
        roles = assign_roles(manifest, known, Partition(seed=3))
    assert "80 images are drawn anew" in caplog.text
    pd.testing.assert_frame_equal(roles, assign_roles(manifest, None, Partition(seed=3)))


def test_images_that_are_gone_are_forgotten(two_roles):
    manifest, known, in_train, _ = two_roles
    fewer = manifest[manifest["image_id"] != in_train]
    roles = assign_roles(fewer, known, Partition())
    assert in_train not in set(roles["image_id"])
    check_disjoint(fewer, roles)


# --- given splits


def test_a_given_split_is_respected():
    manifest = of_sizes([1] * 60, [1] * 60)
    manifest["source"] = ["train"] * 40 + ["test"] * 20 + ["train"] * 40 + ["test"] * 20
    partition = Partition(normal=HALVES, crack=HALVES, respect_source={"test": "external"})
    table = manifest.merge(assign_roles(manifest, None, partition), on="image_id")
    assert set(table.loc[table["source"] == "test", "role"]) == {"external"}
    drawn = table[table["source"] == "train"]
    assert drawn.groupby("label")["role"].value_counts().to_dict() == {
        ("normal", "train"): 20, ("normal", "test"): 12, ("normal", "validation"): 8,
        ("crack", "train"): 20, ("crack", "test"): 12, ("crack", "validation"): 8,
    }  # fmt: skip


def test_a_given_split_that_leaks_keeps_its_test_part(caplog):
    manifest = of_sizes([1] * 20, [1] * 20)
    manifest["source"] = ["train", "test"] * 20
    manifest.loc[:2, "group"] = 0  # sources train, test, train
    shares = {"external": 0.5, "train": 0.5}
    partition = Partition(normal=shares, crack=shares, respect_source={"test": "external", "train": "train"})
    roles = assign_roles(manifest, None, partition)
    check_disjoint(manifest, roles)
    assert list(roles["role"][:3]) == ["left_out", "external", "left_out"]
    assert "2 images are left out" in caplog.text
    pd.testing.assert_frame_equal(assign_roles(manifest, roles, partition), roles)


def test_an_unknown_source_is_named():
    manifest = of_sizes([1] * 20, [1] * 20).assign(source="train")
    with pytest.raises(ValueError, match=r"names 'tset'.*are 'train'"):
        assign_roles(manifest, None, Partition(respect_source={"tset": "external"}))


# --- splits that are respected where they are given


SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
WHERE_GIVEN = Partition(
    normal=SHARES,
    crack=SHARES,
    respect_source={"test": "test", "val": "validation", "validation": "validation"},
    where_given=True,
    each_label=False,
)


def roles_of(manifest, partition, known=None):
    table = assign_roles(manifest, known, partition)
    check_disjoint(manifest, table)
    return manifest.merge(table[["image_id", "role"]], on="image_id")


def test_a_given_test_part_is_the_test_role_and_the_others_share_the_rest():
    manifest = of_sizes([], [1] * 418).assign(source=["train"] * 300 + ["test"] * 118)
    table = roles_of(manifest, WHERE_GIVEN)
    assert ((table["role"] == "test") == (table["source"] == "test")).all()
    # 0.1 / (1 - 0.2) of 300
    assert table["role"].value_counts().to_dict() == {"train": 262, "test": 118, "validation": 38}


def test_given_splits_that_are_for_no_role_are_named(caplog):
    manifest = of_sizes([], [1] * 40)
    roles_of(manifest.assign(source=["train"] * 20 + ["test"] * 10 + [""] * 10), WHERE_GIVEN)
    assert not caplog.text
    roles_of(manifest.assign(source=["training"] * 20 + ["holdout"] * 20), WHERE_GIVEN)
    assert "brings the splits holdout, which partition.respect_source gives no role" in caplog.text
    assert "it knows test, val, validation" in caplog.text


def test_splits_that_are_given_in_full_leave_nothing_to_draw():
    manifest = of_sizes([1] * 5, [1] * 25)
    manifest["source"] = (["train"] * 3 + ["val"] + ["test"]) * 6
    table = roles_of(manifest, WHERE_GIVEN)
    assert table.groupby("source")["role"].unique().map(list).to_dict() == {
        "train": ["train"], "val": ["validation"], "test": ["test"]
    }  # fmt: skip


def test_without_given_splits_all_roles_are_drawn():
    manifest = of_sizes([1] * 50, [1] * 100).assign(source="")
    drawn = assign_roles(manifest, None, Partition(normal=SHARES, crack=SHARES))
    table = assign_roles(manifest, None, WHERE_GIVEN)
    pd.testing.assert_series_equal(table["role"], drawn["role"])


def test_roles_that_are_all_given_leave_out_what_no_split_names(caplog):
    partition = WHERE_GIVEN.model_copy(update={"respect_source": {"a": "train", "b": "validation", "c": "test"}})
    manifest = of_sizes([], [1] * 8).assign(source=["a", "b", "c", "a", "b", "c", "", "other"])
    assert list(roles_of(manifest, partition)["role"]) == ["train", "validation", "test"] * 2 + ["left_out"] * 2
    assert "2 images are left out: no given split names them" in caplog.text


def test_copies_of_a_given_test_part_are_left_out_of_the_others(caplog):
    manifest = of_sizes([], [1] * 60).assign(source=["train"] * 40 + ["test"] * 20)
    manifest.loc[[0, 1, 40], "group"] = 900
    table = roles_of(manifest, WHERE_GIVEN)
    assert ((table["role"] == "test") == (table["source"] == "test")).all()
    assert list(table["role"][:2]) == ["left_out", "left_out"]
    assert "2 images are left out: they have near-duplicates in a given split" in caplog.text


@settings(max_examples=20)
@given(manifest=manifests(), sources=st.sets(st.sampled_from(["test", "val", "train"])), seed=st.integers(0, 99))
def test_a_given_role_holds_images_of_its_split_alone(manifest, sources, seed):
    rng = np.random.default_rng(seed)
    manifest["source"] = rng.choice(["", *sorted(sources)], len(manifest))
    try:
        table = roles_of(manifest, WHERE_GIVEN)
    except ValueError as error:  # copies of the given parts can use up what is left
        assert "came out empty" in str(error) or "no image labelled" in str(error) or "too few" in str(error)
        return
    for source, role in (("test", "test"), ("val", "validation")):
        if source in sources and (manifest["source"] == source).any():
            assert set(table.loc[table["role"] == role, "source"]) <= {source}
            assert set(table.loc[table["source"] == source, "role"]) <= {role, "left_out"}


def test_a_split_given_later_counts_and_says_so(caplog):
    manifest = of_sizes([], [1] * 100).assign(source="")
    known = assign_roles(manifest, None, WHERE_GIVEN)
    official = manifest["image_id"].isin(known.loc[known["role"] == "train", "image_id"][:30])
    given_now = manifest.assign(source=np.where(official, "test", ""))
    table = roles_of(given_now, WHERE_GIVEN, known)
    assert ((table["role"] == "test") == official).all()
    assert "drawn anew" in caplog.text
    known = assign_roles(given_now, None, WHERE_GIVEN)
    corrected = given_now.assign(
        source=given_now["source"].where(official & (given_now.index != official.idxmax()), "")
    )
    table = roles_of(corrected, WHERE_GIVEN, known)
    assert ((table["role"] == "test") == (corrected["source"] == "test")).all()
    assert "the given splits have changed, and 1 images lose their earlier role" in caplog.text
    kept = table.merge(known, on="image_id")
    assert (kept["role_x"] == kept["role_y"]).sum() == 99


def test_few_images_of_the_other_label_are_enough_where_they_are_not_needed():
    for few in (0, 1, 2):
        manifest = of_sizes([1] * few, [1] * 40).assign(source="")
        assert set(roles_of(manifest, WHERE_GIVEN)["role"]) == set(SHARES)
    manifest = of_sizes([1] * 2, [1] * 40).assign(source="")
    with pytest.raises(ValueError, match="there are 2 images labelled normal, too few"):
        assign_roles(manifest, None, WHERE_GIVEN.model_copy(update={"each_label": True}))
    with pytest.raises(ValueError, match="there are 2 images labelled crack, too few"):
        assign_roles(of_sizes([], [1] * 2).assign(source=""), None, WHERE_GIVEN)


def test_tiles_of_a_given_test_part_are_its_role():
    manifest = a_manifest(["normal", "crack"] * 60, np.repeat(np.arange(30), 4), source=["train"] * 80 + ["test"] * 40)
    table = roles_of(manifest, WHERE_GIVEN.of_photographs())
    assert ((table["role"] == "test") == (table["source"] == "test")).all()
    assert table["role"].value_counts().to_dict() == {"train": 68, "test": 40, "validation": 12}


def test_a_role_that_may_be_given_cannot_take_the_rest():
    shares = {"train": 10, "test": "rest"}
    with pytest.raises(ValidationError, match="test takes the rest of the crack images"):
        Partition(crack=shares, respect_source={"test": "test"}, where_given=True)
    shares = {"validation": 10, "test": 5, "train": "rest"}
    partition = Partition(normal=shares, crack=shares, respect_source={"test": "test"}, where_given=True)
    manifest = of_sizes([1] * 50, [1] * 50).assign(source=(["test"] * 20 + [""] * 30) * 2)
    assert roles_of(manifest, partition)["role"].value_counts().to_dict() == {
        "train": 40, "test": 40, "validation": 20
    }  # fmt: skip


def test_rules_of_before_these_parameters_are_the_same():
    assert Partition().rule == "fd2470de98bc"
    assert Partition().of_photographs().rule == "49eaa6155437"
    assert len({Partition().rule, Partition(where_given=True).rule, Partition(each_label=False).rule}) == 3


# --- refusals


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (a_manifest([], []), "no image"),
        (a_manifest(["normal", None], [1, 2]), "image i00001 has the label"),
        (of_sizes([1] * 3, [1] * 10), "there are 3 images labelled normal, too few for the shares train 0.6"),
        (of_sizes([50, 50], [1] * 10), "no image labelled normal.*there are 100, in 2 near-duplicate groups"),
        (of_sizes([], [1] * 10), "role train came out empty: of 0 normal, 10 crack"),
        (pd.concat([of_sizes([1], []), of_sizes([1], [])]), "i00000 is listed twice"),
    ],
)
def test_manifests_that_cannot_be_shared_out(manifest, message):
    with pytest.raises(ValueError, match=message):
        assign_roles(manifest, None, Partition())


def test_counts_beyond_what_there_is():
    with pytest.raises(ValueError, match=r"there are 20 images labelled normal, too few .*train 30"):
        partition = Partition(normal={"train": 30, "test": "rest"})
        assign_roles(of_sizes([1] * 20, [1] * 20), None, partition)


def test_a_label_that_is_nowhere_is_only_warned_of(caplog):
    roles = assign_roles(of_sizes([1] * 40, []), None, Partition())
    assert set(roles["role"]) == set(ROLES) - {"left_out"}
    assert "no image labelled crack" in caplog.text


def broken(column, row, value):
    manifest = of_sizes([2] * 10, [1] * 10)
    partition = assign_roles(manifest, None, Partition())
    partition.loc[row, column] = value
    return manifest, partition


def test_check_names_a_group_in_two_roles():
    manifest, partition = broken("role", 0, "left_out")
    with pytest.raises(ValueError, match=r"near-duplicate group 0 is in two roles: \w+ and \w+"):
        check_disjoint(manifest, partition)


def test_check_is_not_deceived_by_other_group_numbers():
    manifest, partition = broken("group", 0, 777)
    partition.loc[[0, 1], "role"] = ["train", "test"]
    with pytest.raises(ValueError, match=r"group 0 of the manifest is in two roles: test and train"):
        check_disjoint(manifest, partition)


def test_check_names_images_out_of_place():
    manifest, partition = broken("role", 0, "tain")
    with pytest.raises(ValueError, match="i00000 has the role 'tain'"):
        check_disjoint(manifest, partition)
    manifest, partition = broken("image_id", 4, "i00005")
    with pytest.raises(ValueError, match="i00005 is listed twice in the partition"):
        check_disjoint(manifest, partition)
    manifest, partition = broken("role", 4, "external")
    moved = pd.concat([partition, partition.iloc[[4]].assign(role="train")])
    with pytest.raises(ValueError, match="image i00004 is in two roles: external and train"):
        check_disjoint(manifest, moved)
    with pytest.raises(ValueError, match="i00000 of the manifest has no role"):
        check_disjoint(manifest, partition.iloc[1:])
    with pytest.raises(ValueError, match="i00029 of the partition is not in the manifest"):
        check_disjoint(manifest.iloc[:-1], partition)


# --- tiles


def test_tiles_need_no_cracks_in_any_role():
    number = np.repeat(np.arange(8), 6)
    manifest = pd.DataFrame(
        {
            "image_id": [f"{photo}-{tile}" for tile, photo in enumerate(number)],
            "label": np.where((number < 2) & (np.arange(48) % 2 == 0), "crack", "normal"),
            "group": number,
            "source": "",
        }
    )
    roles = assign_roles(manifest, None, Partition().of_photographs())
    check_disjoint(manifest, roles)
    assert set(roles["role"]) == {"train", "validation", "test", "external"}
    assert set(roles["rule"]) == {Partition().of_photographs().rule}


def test_roles_of_other_rules_and_images_are_remembered():
    manifest = of_sizes([1] * 40, [1] * 40)
    known = remember_roles(assign_roles(manifest, None, Partition()), None)
    other = of_sizes([1] * 60, [1] * 60)
    other["image_id"] = "other" + other["image_id"]
    known = remember_roles(assign_roles(other, known, Partition(seed=3)), known)
    again = assign_roles(manifest, known, Partition())
    expected = assign_roles(manifest, None, Partition())
    pd.testing.assert_frame_equal(again, expected)
    assert len(known) == 200
