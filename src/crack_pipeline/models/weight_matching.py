"""Which tensors of a file belong to which of a network, although their names differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_COUNTER = "num_batches_tracked"


class Match(NamedTuple):
    """How the tensors of a file fit a network. Counters of batches are left out of all of it."""

    found: dict[str, Tensor]
    """By the network's names, as they go in."""
    missing: list[str]
    """Names of the network."""
    misshapen: list[tuple[str, tuple[int, ...]]]
    """Names of the network, and the shapes in the file."""
    names: dict[str, str]
    """Names in the file by those of the network."""
    prefix: str
    """What comes before all names in the file."""


def match(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Match:
    """Find the tensors of a network in a file.

    Names may have any prefix in common there (``module.``, ``backbone.``, …), lack one that the network's have in
    common (``features.``), be those of old DenseNet files (``norm.1`` for ``norm1``) or have ``.`` and ``_``
    exchanged, as timm does. Kernels for three colours are summed where the network takes one.

    Parameters
    ----------
    own
        State dictionary of the network.
    tensors
        Of the file, by name.

    Returns
    -------
    Match
        That of the prefixes for which most is found.
    """
    wanted = {_canonical(key): key for key in own if not key.endswith(_COUNTER)}
    there = {_canonical(key): key for key in tensors}
    matches = []
    for prefix, lacking in dict.fromkeys(_prefixes(list(wanted), list(there))):
        found = Match({}, [], [], {}, prefix)
        for canonical, key in wanted.items():
            name = there.get(prefix + canonical.removeprefix(lacking))
            if name is None:
                found.missing.append(key)
                continue
            tensor = _in_grey(tensors[name], own[key])
            if tensor.shape == own[key].shape:
                found.found[key], found.names[key] = tensor, name
            else:
                found.misshapen.append((key, tuple(tensor.shape)))
        matches.append(found)
    return max(matches, key=lambda found: len(found.found))


def surplus(tensors: Mapping[str, Tensor], matched: Match, elsewhere: Iterable[str] = ()) -> list[str]:
    """List the tensors of a file that show that its network is a larger one: further layers of the parts in use.

    Parameters
    ----------
    tensors
        Of the file, by name.
    matched
        What of them the network uses.
    elsewhere
        Names of tensors, without prefix, that may be there.

    Returns
    -------
    list of str
        Names; a classifier's, say, are not among them, since the network has nothing in that part.
    """
    start, used, allowed = len(matched.prefix), set(matched.names.values()), set(map(_canonical, elsewhere))
    parts = {name[start:].split(".")[0] for name in used}
    return [
        name
        for name in tensors
        if name not in used
        and not name.endswith(_COUNTER)
        and _canonical(name).startswith(matched.prefix)
        and name[start:].split(".")[0] in parts
        and _canonical(name[start:]) not in allowed
    ]


def _canonical(key: str) -> str:
    """Write a name as all of its spellings have in common: timm calls the same ``stages.0`` and ``stages_0``."""
    return _OLD_DENSENET.sub(r"\1\2.", key).replace("_", ".")


def _in_grey(tensor: Tensor, own: Tensor) -> Tensor:
    if tensor.ndim == own.ndim == 4 and tensor.shape[1] == 3 and own.shape[1] == 1:
        return tensor.sum(dim=1, keepdim=True)
    return tensor


def _prefixes(wanted: list[str], there: list[str]) -> Iterator[tuple[str, str]]:
    """Give pairs: what may come before the names in the file, what of the network's may be lacking there."""
    shared = wanted[0].split(".")[:-1]
    while not all(key.startswith("".join(f"{part}." for part in shared)) for key in wanted):
        shared.pop()
    for length in range(len(shared) + 1):
        lacking = "".join(f"{part}." for part in shared[:length])
        yield "", lacking
        for anchor in (wanted[0], wanted[len(wanted) // 2], wanted[-1]):
            ending = f".{anchor.removeprefix(lacking)}"
            for key in there:
                if key.endswith(ending):
                    yield key[: 1 - len(ending)], lacking
