"""Give every image of a manifest its role (train, validation, test, external), and prove the roles disjoint.

The roles are drawn group by group: a near-duplicate group never spans two roles. The draw depends on the
images and on the parameters alone, never on the order of the rows, and an earlier partition can be carried
on, so that images may be added without an image ever changing its role.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from crack_pipeline.pipelines.ingestion.parameters import split_name

logger = logging.getLogger(__name__)

Label = Literal["normal", "crack"]
Role = Literal["train", "validation", "test", "external", "left_out"]

LABELS: tuple[Label, ...] = get_args(Label)
ROLES: tuple[Role, ...] = get_args(Role)
HELD_OUT_FIRST: tuple[Role, ...] = ("external", "test", "validation", "train", "left_out")


def _as_share(value: object) -> object:
    """Check one share and name the forms it may take."""
    forms = "a fraction from 0.0 to 1.0, a whole number of images (0 or more) or 'rest'"
    if value == "rest":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a share: give {forms}")
    if value < 0 or (isinstance(value, float) and not value <= 1):
        raise ValueError(f"{value!r} is out of range: give {forms}")
    return value


Share = Annotated[int | float | Literal["rest"], BeforeValidator(_as_share)]


class Partition(BaseModel):
    """How the images are shared out among the roles.

    A share is a fraction of the images of its label (``0.6``), a number of images (``1500``) or ``rest``. The
    fractions of a label sum to 1; where there is a number, exactly one role takes the ``rest``, and that
    role may be ``left_out``, for images that nothing is to use. The defaults are the published protocol: of
    20,000 normal images 5,000 external, 12,000 train, 1,500 validation and 1,500 test; of 20,000 cracks
    15,000 external, 500 validation and 4,500 test.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: dict[Role, Share] = Field(
        {"external": 0.25, "train": 0.6, "validation": 0.075, "test": 0.075},
        description="share of each role in the crack-free images: fraction, number of images or 'rest'",
    )
    crack: dict[Role, Share] = Field(
        {"external": 0.75, "validation": 0.025, "test": 0.225},
        description="share of each role in the cracked images: fraction, number of images or 'rest'",
    )
    respect_source: dict[str, Role] = Field(
        {},
        description="role of the images of a given split, by the manifest's source, for example "
        "{test: external}; the shares then speak of the other images only",
    )
    where_given: bool = Field(
        False,
        description="with respect_source: a role whose split is given holds exactly those images, and the other roles "
        "share the rest in their proportions; a split that is not there is drawn, instead of being an error",
    )
    each_label: bool = Field(
        True,
        description="whether a role must hold images of every label in which it has a share; false: only of the label "
        "that has more, for tasks that can do without sound images",
    )
    seed: int = Field(0, ge=0, description="another seed draws other roles")
    by_photograph: bool = Field(
        False, exclude=True, description="set for tiles: the normal shares decide, and no role needs cracks"
    )

    @field_validator("respect_source")
    @classmethod
    def _names_of_splits(cls, roles: dict[str, Role]) -> dict[str, Role]:
        return {split_name(source): role for source, role in roles.items()}

    @field_validator("normal", "crack")
    @classmethod
    def _shares_add_up(cls, shares: dict[Role, int | float | str]) -> dict[Role, int | float | str]:
        rests = [role for role, share in shares.items() if share == "rest"]
        counts = [role for role, share in shares.items() if isinstance(share, int)]
        total = sum(share for share in shares.values() if isinstance(share, float))
        if len(rests) > 1:
            raise ValueError(f"only one role can take the rest, but {' and '.join(rests)} do")
        if rests and total > 1 + 1e-6:
            raise ValueError(f"the fractions sum to {total:.6g}, more than 1")
        if not rests and any(shares[role] for role in counts):
            raise ValueError(
                f"{counts[0]} is a number of images ({shares[counts[0]]}), so one role must be 'rest' "
                "(left_out may be it); all the images of a label are written 1.0"
            )
        if not rests and abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions sum to {total:.6g}: make them sum to 1, or give one role 'rest'")
        return shares

    @model_validator(mode="after")
    def _no_rest_is_given(self) -> Partition:
        given = set(self.respect_source.values()) if self.where_given else set()
        for label in LABELS:
            for role, share in getattr(self, label).items():
                if share == "rest" and role in given:
                    raise ValueError(
                        f"{role} takes the rest of the {label} images, but with where_given its images may be given: "
                        "write fractions, or let another role take the rest"
                    )
        return self

    @property
    def rule(self) -> str:
        """Short fingerprint of the parameters; two partitions of one rule may be carried on."""
        # Without those that came later, where they change nothing: the roles of earlier runs stay
        later = {"where_given"} if not self.where_given else set()
        later |= {"each_label"} if self.each_label else set()
        text = json.dumps(self.model_dump(mode="json", exclude=later), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def of_photographs(self) -> Partition:
        """Give the partition for tiles: a photograph, with all its tiles, is drawn by the shares of the normal ones."""
        return self.model_copy(update={"crack": self.normal, "by_photograph": True})

    def without(self, given: set[Role]) -> Partition:
        """Give the partition of the images that are left when some roles are given: the others share them."""

        def left(shares: dict[Role, Share]) -> dict[Role, Share]:
            taken = sum(share for role, share in shares.items() if role in given and isinstance(share, float))
            return {
                role: share / (1 - taken) if isinstance(share, float) and share else share
                for role, share in shares.items()
                if role not in given
            }

        return self.model_copy(update={label: left(getattr(self, label)) for label in LABELS})

    def targets(self, label: Label, n: int, *, least: int = 1) -> dict[Role, int]:
        """Say how many images each role should have.

        Parameters
        ----------
        label
            The label whose shares count.
        n
            Number of images of that label.
        least
            Images that every role but ``left_out`` is to have, however small its fraction: 0 or 1.

        Returns
        -------
        dict of str to int
            A number for each role that has a share above 0; they sum to ``n``, if there is such a role.

        Raises
        ------
        ValueError
            If there are too few images; the message says how many there are.
        """
        shares = {role: share for role in ROLES if (share := getattr(self, label).get(role, 0)) != 0}
        if n == 0 or not shares:
            return dict.fromkeys(shares, 0)
        wanted = {role: s * n if isinstance(s, float) else s for role, s in shares.items() if s != "rest"}
        rest = n - sum(wanted.values())
        wanted |= {role: rest for role, share in shares.items() if share == "rest"}
        needed = [role for role in wanted if role != "left_out" and least]
        if len(needed) > n or min(wanted.values()) < -1e-6 or any(wanted[role] < 1e-6 for role in needed):
            listed = ", ".join(f"{role} {share}" for role, share in shares.items())
            raise ValueError(
                f"there are {n:,} images labelled {label}, too few for the shares {listed}: "
                "add images, or change the shares in the partition's parameters"
            )
        whole = {role: int(np.floor(count + 1e-9)) for role, count in wanted.items()}
        by_remainder = sorted(wanted, key=lambda role: whole[role] - wanted[role])
        for role in by_remainder[: n - sum(whole.values())]:
            whole[role] += 1
        for role in needed:
            if whole[role] == 0:
                whole[max(whole, key=lambda other: whole[other])] -= 1
                whole[role] = 1
        return whole


def assign_roles(manifest: pd.DataFrame, known: pd.DataFrame | None, partition: Partition) -> pd.DataFrame:
    """Give every image a role, whole near-duplicate groups at a time.

    The groups are taken in the order of a hash of the seed and their smallest image_id, those that are large
    against the smallest role first, and each goes where it lessens the squared distance to the targets most.
    Where every group has one label, each role so ends within the size of the largest group of its target. A
    group that holds both labels goes to a role in which both have a share, else it is left out.

    Parameters
    ----------
    manifest
        One row per image: ``image_id`` (str, unique), ``label`` ("normal" or "crack"), ``group`` (int,
        near-duplicate group) and, where ``respect_source`` is used, ``source`` (str).
    known
        An earlier partition, to be carried on, or None. Its images keep their roles, and a new image of a
        known group joins the role of its group. A new image is left out where the group it joins has known
        images of two roles, or where its label has no share in its group's role. If the partition was made
        by other parameters it is not used, and a warning says so.
    partition
        The shares, the seed and the given splits.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``role`` (one of train, validation, test, external, left_out), ``group`` (int64: the
        manifest's, save where a group had to be split) and ``rule`` (fingerprint of the parameters), sorted
        by image_id. No group is in two roles.

    Raises
    ------
    ValueError
        If an image is listed twice or has no label, or if there are too few images or groups for a role.

    Notes
    -----
    Where images of one group are given to two roles, by a given split or by an earlier partition that knew
    other groups, the images of the most held-out role stay (external, test, validation, then train) and the
    others are left out.
    """
    table = _checked(manifest, partition)
    if partition.where_given:
        given = {role for source, role in partition.respect_source.items() if (table["source"] == source).any()}
        partition = partition.without(given)
        _warn_of_other_splits(table, partition)
    _take_known_and_given_roles(table, known, partition)
    _settle_agreeing_groups(table, partition)
    _settle_torn_groups(table)
    _draw(table, partition)
    _split_groups(table)
    table["rule"] = partition.rule
    types = {"image_id": "str", "role": "str", "group": "int64", "rule": "str"}
    return table[list(types)].astype(types)


def check_disjoint(manifest: pd.DataFrame, partition: pd.DataFrame) -> pd.DataFrame:
    """Prove that no image and no near-duplicate group is in two roles, and count what each role holds.

    Parameters
    ----------
    manifest
        ``image_id``, ``label`` and ``group``, a row per image.
    partition
        ``image_id``, ``role`` and ``group``, as :func:`assign_roles` makes it.

    Returns
    -------
    pandas.DataFrame
        ``role``, ``label``, ``images`` and ``groups`` (int64), a row for each role and label that occur.

    Raises
    ------
    ValueError
        If an image or a group is in two roles, an image is listed twice, a role is not known, or the two
        tables do not hold the same images. The message names the image or group and its roles.

    Notes
    -----
    The groups are looked at twice: as the partition has them, and as the manifest has them. One of the
    manifest's groups may span two roles only where images that would bridge them were left out.
    """
    _refuse(_in_two_roles(partition, "image_id"), "image {0} is in two roles: {1}")
    for table, name in ((partition, "partition"), (manifest, "manifest")):
        twice = table.loc[table["image_id"].duplicated(), "image_id"]
        _refuse(twice, f"image {{1}} is listed twice in the {name}")
    odd = partition.loc[~partition["role"].isin(ROLES)].set_index("image_id")["role"]
    _refuse(odd, f"image {{0}} has the role {{1!r}}, which is none of {', '.join(ROLES)}")
    without = manifest.loc[~manifest["image_id"].isin(partition["image_id"]), "image_id"]
    _refuse(without, "image {1} of the manifest has no role: make the partition anew")
    without = partition.loc[~partition["image_id"].isin(manifest["image_id"]), "image_id"]
    _refuse(without, "image {1} of the partition is not in the manifest: make the partition anew")

    _refuse(_in_two_roles(partition, "group"), "near-duplicate group {0} is in two roles: {1}")
    both = partition[["image_id", "role", "group"]].merge(
        manifest[["image_id", "label", "group"]], on="image_id", suffixes=("", "_of_manifest")
    )
    bridged = both.loc[both["role"] == "left_out", "group_of_manifest"]
    whole = both.loc[~both["group_of_manifest"].isin(bridged)]
    leaks = _in_two_roles(whole, "group_of_manifest")
    _refuse(leaks, "near-duplicate group {0} of the manifest is in two roles: {1}")

    counts = both.groupby(["role", "label"], as_index=False).agg(
        images=("image_id", "size"), groups=("group", "nunique")
    )
    order = {key: place for place, key in enumerate((role, label) for role in ROLES for label in LABELS)}
    counts.index = pd.Index([order[key] for key in zip(counts["role"], counts["label"], strict=True)])
    return counts.sort_index().reset_index(drop=True).astype({"images": "int64", "groups": "int64"})


def _in_two_roles(table: pd.DataFrame, key: str) -> pd.Series[Any]:
    """Roles, joined to one string, of each value of ``key`` that has more than one."""
    pairs = table[[key, "role"]].drop_duplicates()
    pairs = pairs[pairs[key].duplicated(keep=False)].sort_values([key, "role"])
    return pairs.groupby(key, dropna=False)["role"].agg(" and ".join)


def _refuse(found: pd.Series[Any], message: str) -> None:
    """Raise the message, filled with the index and value of the first row found, if there is one."""
    if len(found):
        more = f" (the first of {len(found):,})" if len(found) > 1 else ""
        raise ValueError(message.format(found.index[0], found.iloc[0]) + more)


def _checked(manifest: pd.DataFrame, partition: Partition) -> pd.DataFrame:
    """Take the columns that count, sorted by image, or refuse a manifest that no role can be given on."""
    if manifest.empty:
        raise ValueError("the manifest has no image: there is nothing to give a role to")
    columns = ["image_id", "label", "group"] + (["source"] if partition.respect_source else [])
    table = manifest[columns].sort_values("image_id", ignore_index=True)
    if partition.respect_source:
        table["source"] = table["source"].map(split_name, na_action="ignore")
    _refuse(table.loc[table["image_id"].duplicated(), "image_id"], "image {1} is listed twice in the manifest")
    odd = table.loc[~table["label"].isin(LABELS)].set_index("image_id")["label"]
    _refuse(odd, f"image {{0}} has the label {{1!r}}, but a role needs one of {', '.join(LABELS)}")
    if partition.respect_source and not partition.where_given:
        sources = sorted(set(table["source"].dropna()))
        for source in partition.respect_source:
            if source not in sources:
                has = ", ".join(map(repr, sources))
                raise ValueError(f"respect_source names {source!r}, but the sources of the manifest are {has}")
    return table


def _take_known_and_given_roles(table: pd.DataFrame, known: pd.DataFrame | None, partition: Partition) -> None:
    """Add ``role`` (missing where it is to be drawn), ``new`` and ``given`` (the group has a given split)."""
    if known is not None and len(known):
        of_rule = known[known["rule"] == partition.rule] if "rule" in known else known.head(0)
        if of_rule.empty and known["image_id"].isin(table["image_id"]).any():
            logger.warning(
                "the partition's parameters have changed: the roles of all %s images are drawn anew, and a model "
                "trained on the earlier roles must not be measured on the new ones",
                f"{len(table):,}",
            )
        known = of_rule
    table["role"] = pd.Series(None, index=table.index, dtype=object)
    if known is not None and len(known):
        table["role"] = table["image_id"].map(known.set_index("image_id")["role"]).astype(object)
    table["new"] = table["role"].isna()
    table["given"] = False
    if partition.respect_source:
        by_source = table["source"].map(partition.respect_source).astype(object)
        if partition.where_given:
            known_role, given = table["role"], by_source.dropna().unique()
            table["role"] = known_role.mask(known_role.isin(given))
            table["role"] = by_source.fillna(table["role"])
            changed = int((known_role.notna() & (known_role != table["role"])).sum())
            if changed:
                logger.warning("the given splits have changed, and %s images lose their earlier role", f"{changed:,}")
        table["role"] = table["role"].fillna(by_source)
        table["given"] = table["group"].isin(table.loc[by_source.notna(), "group"])
        if partition.where_given:
            copies = table["given"] & table["role"].isna()
            table.loc[copies, "role"] = "left_out"
            if copies.any():
                logger.warning(
                    "%s images are left out: they have near-duplicates in a given split", f"{int(copies.sum()):,}"
                )


def _warn_of_other_splits(table: pd.DataFrame, partition: Partition) -> None:
    """Say which given splits are for no role, so that a test split of another name is not learned from unnoticed."""
    names = sorted(set(table["source"].dropna()) - set(partition.respect_source))
    others = [name for name in names if name and name != "train"]
    if others:
        logger.warning(
            "the data set brings the splits %s, which partition.respect_source gives no role: they are shared out "
            "as if they were no splits (it knows %s)",
            ", ".join(others),
            ", ".join(partition.respect_source),
        )


def _settle_agreeing_groups(table: pd.DataFrame, partition: Partition) -> None:
    """Let new images join their group's role, where the group has one, if their label has a share in it."""
    started = table[table["role"].notna()].drop_duplicates(["group", "role"])
    in_use = started[started["role"] != "left_out"]
    torn = in_use.loc[in_use["group"].duplicated(), "group"]
    started = started[~started["group"].isin(torn)].sort_values("role", key=lambda roles: roles == "left_out")
    role_of_group = started.drop_duplicates("group").set_index("group")["role"]
    joining = table.index[table["role"].isna() & table["group"].isin(role_of_group.index)]
    if joining.empty:
        return
    joined = table.loc[joining]
    role = joined["group"].map(role_of_group)
    shares = {(r, label) for label in LABELS for r, share in getattr(partition, label).items() if share != 0}
    may = [pair in shares for pair in zip(role, joined["label"], strict=True)] | joined["given"].to_numpy()
    table.loc[joining, "role"] = role.where(may | (role == "left_out").to_numpy(), "left_out")
    if not all(may):
        logger.warning(
            "%s new images are left out: their label has no share in the role of their near-duplicates",
            f"{int((~may).sum()):,}",
        )


def _settle_torn_groups(table: pd.DataFrame) -> None:
    """Leave out what would put one group in two roles; see the notes of :func:`assign_roles`."""
    in_use = table.loc[table["role"].notna() & (table["role"] != "left_out"), ["group", "role"]].drop_duplicates()
    torn = in_use.loc[in_use["group"].duplicated(), "group"]
    left_out = 0
    for _, rows in table[table["group"].isin(torn)].groupby("group"):
        before = rows[~rows["new"]]
        known_roles = [role for role in HELD_OUT_FIRST[:-1] if (before["role"] == role).any()]
        if len(known_roles) > 1 and (rows["new"].any() or (before["role"] == "left_out").any()):
            out = rows.index[rows["new"]]
        else:
            given_roles = [role for role in HELD_OUT_FIRST[:-1] if (rows["role"] == role).any()]
            stays = (known_roles or given_roles)[0]
            out = rows.index[rows["role"].notna() & (rows["role"] != stays)]
            table.loc[rows.index[rows["role"].isna()], "role"] = stays
        left_out += int((table.loc[out, "role"] != "left_out").sum())
        table.loc[out, "role"] = "left_out"
    if left_out:
        logger.warning("%s images are left out: they have near-duplicates in another role", f"{left_out:,}")


def _draw(table: pd.DataFrame, partition: Partition) -> None:
    """Draw the roles of the groups that have none."""
    drawn = table[~table["given"]]
    free = drawn[drawn["role"].isna()]
    roles = [role for role in HELD_OUT_FIRST if any(getattr(partition, x).get(role, 0) != 0 for x in LABELS)]
    if not roles:
        table.loc[free.index, "role"] = "left_out"
        if len(free):
            logger.warning("%s images are left out: no given split names them, and all are given", f"{len(free):,}")
        return
    total = np.array([(drawn["label"] == label).sum() for label in LABELS])
    main = 0 if partition.by_photograph else int(total.argmax())
    spared = [label != main and (partition.by_photograph or not partition.each_label) for label in (0, 1)]
    normal = partition.targets("normal", int(total[0]), least=int(not spared[0]))
    targets = [normal, {role: round(n * total[1] / max(total[0], 1)) for role, n in normal.items()}]
    if not partition.by_photograph:
        targets[1] = partition.targets("crack", int(total[1]), least=int(not spared[1]))
    allowed = np.array([[role in of_label for role in roles] for of_label in targets])
    done = np.array([[((drawn["label"] == x) & (drawn["role"] == role)).sum() for role in roles] for x in LABELS])
    missing = np.array([[of_label.get(role, 0) for role in roles] for of_label in targets]) - done

    groups = pd.DataFrame({label: (free["label"] == label).groupby(free["group"]).sum() for label in LABELS})
    first = free.groupby("group")["image_id"].min()
    groups["hash"] = [_hash(partition.seed, image_id) for image_id in first]
    # A group that could fill half of the smallest role would distort it: it comes while all have room.
    room = [min((n for n in of_label.values() if n), default=0) / 2 for of_label in targets]
    groups["small"] = (groups[list(LABELS)] <= room).all(axis=1)
    groups = groups.sort_values(["small", "hash"])

    sizes = groups[list(LABELS)].to_numpy()
    chosen = _fill(sizes, missing, allowed, weights=1 / np.maximum(total, 1) ** 2)
    needed = allowed & (np.array(roles) != "left_out")
    needed[spared] = False
    targets = [{} if spare else of_label for of_label, spare in zip(targets, spared, strict=True)]
    _fill_empty(chosen, sizes, missing, needed & (total > 0)[:, None] & (done == 0))
    role_of_group = pd.Series([roles[k] if k >= 0 else "left_out" for k in chosen], groups.index, dtype=object)
    table.loc[free.index, "role"] = free["group"].map(role_of_group)

    without_role = int(sizes[chosen < 0].sum())
    if without_role:
        logger.warning(
            "%s images are left out: their near-duplicate groups hold both labels, and no role takes both",
            f"{without_role:,}",
        )
    _refuse_empty_roles(table, [roles[k] for k in range(len(roles)) if needed[:, k].any()], targets)


def _hash(seed: int, image_id: str) -> str:
    return hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=16).hexdigest()


def _fill(
    sizes: NDArray[np.int64],
    missing: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Place each group where it lessens the weighted squared distance to the targets most.

    ``sizes`` is (groups, labels), ``missing`` (labels, roles) is brought up to date. Returned is the
    index of the role of each group, -1 where no role is allowed.
    """
    chosen = np.full(len(sizes), -1)
    for i, size in enumerate(sizes):
        may = allowed[size > 0].all(axis=0)
        if may.any():
            chosen[i] = np.where(may, (weights * size) @ missing, -np.inf).argmax()
            missing[:, chosen[i]] -= size
    return chosen


def _fill_empty(
    chosen: NDArray[np.int64], sizes: NDArray[np.int64], missing: NDArray[np.int64], needed: NDArray[np.bool_]
) -> None:
    """Give each needed role that came out empty the smallest group that another can spare, in place."""
    for label, role in zip(*np.nonzero(needed), strict=True):
        of_label = (sizes[:, label] > 0) & (sizes.sum(axis=1) == sizes[:, label]) & (chosen >= 0)
        if missing[label, role] <= 0 or ((chosen == role) & (sizes[:, label] > 0)).any():
            continue
        groups_of_role = np.bincount(chosen[of_label], minlength=needed.shape[1])
        spare = np.flatnonzero(of_label & (groups_of_role[chosen] > 1))
        if len(spare):
            moved = spare[np.lexsort((missing[label, chosen[spare]], sizes[spare, label]))[0]]
            missing[:, chosen[moved]] += sizes[moved]
            missing[:, role] -= sizes[moved]
            chosen[moved] = role


def remember_roles(partition: pd.DataFrame, known: pd.DataFrame | None) -> pd.DataFrame:
    """Add the roles of this run to those of all earlier ones, images of other folders and other rules included.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``role``, ``group``, ``rule``; an image once per rule, as it was last.
    """
    earlier = [known] if known is not None and "rule" in known else []
    together = pd.concat([partition, *earlier], ignore_index=True)
    return together.drop_duplicates(["image_id", "rule"], ignore_index=True)[list(partition.columns)]


def _refuse_empty_roles(table: pd.DataFrame, roles: list[Role], targets: list[dict[Role, int]]) -> None:
    """Raise if a role that is to have images has none, naming what there is."""
    for label, of_label in zip(LABELS, targets, strict=True):
        images = table[table["label"] == label]
        if images.empty and of_label:
            logger.warning("the manifest has no image labelled %s", label)
        for role, wanted in of_label.items():
            if wanted and role != "left_out" and not (images["role"] == role).any():
                shared = images["group"].isin(table.loc[table["label"] != label, "group"]).sum()
                raise ValueError(
                    f"no image labelled {label} came into the role {role}: there are {len(images):,}, in "
                    f"{images['group'].nunique():,} near-duplicate groups ({shared:,} images in groups that "
                    "hold both labels), and a group has one role. Add photographs of other places, or give "
                    f"{role} no share in {label} images, or give both labels a share in it"
                )
    for role in roles:
        if not (table["role"] == role).any():
            counts = ", ".join(f"{(table['label'] == label).sum():,} {label}" for label in LABELS)
            raise ValueError(
                f"the role {role} came out empty: of {counts} images none was for it. Add images of a label "
                f"that has a share in {role}, or change the shares in the partition's parameters"
            )


def _split_groups(table: pd.DataFrame) -> None:
    """Renumber, in place, so that no group is in two roles; what was left out of one in use stands alone."""
    in_use = table["role"] != "left_out"
    key = table["role"].where(in_use | ~table["group"].isin(table.loc[in_use, "group"]), table["image_id"])
    parts = pd.DataFrame({"group": table["group"], "key": key}).drop_duplicates()
    parts["order"] = parts["key"].map({role: place for place, role in enumerate(HELD_OUT_FIRST)}).fillna(len(ROLES))
    parts = parts.sort_values(["group", "order", "key"])
    more = parts["group"].duplicated()
    parts["number"] = parts["group"].mask(more, int(table["group"].max()) + more.cumsum())
    table["group"] = table[["group"]].assign(key=key).merge(parts, on=["group", "key"])["number"].to_numpy()
