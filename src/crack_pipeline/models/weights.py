"""Trained weights together with what is needed to use them."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
