"""Trained weights together with what is needed to use them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

FACTS = "facts"
"""Where a file of weights keeps the facts, in its metadata, as JSON."""


class Weights(NamedTuple):
    """A state dictionary and JSON-like facts about it, such as the options that rebuild the network."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def fingerprint(self) -> str:
        """Give a hash of the tensors: hex, the same for the same numbers under the same names."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def whole_fingerprint(self) -> str:
        """Give a hash of the tensors and of the facts: hex, the same before and after they are stored."""
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=16)
        digest.update(json.dumps(self.facts, sort_keys=True).encode())
        return digest.hexdigest()


def read_weights(path: Path) -> Weights:
    """Read weights and facts from a safetensors file; SafetensorError if it is damaged or not one."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Weights(tensors, json.loads((file.metadata() or {}).get(FACTS, "{}")))
