"""Short names of what a result depends on: configuration, trained weights, class names."""

import hashlib
import json

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.runtime.run_folder import flat
from frozenseg.vocabulary.vocabulary import Vocabulary

_LENGTH = 16  # hexadecimal digits


def config_digest(cfg: CfgNode) -> str:
    """Returns a short name of all keys except ``OUTPUT_DIR``."""
    values = {key: value for key, value in flat(cfg).items() if key != "OUTPUT_DIR"}
    return _digest(json.dumps(values, sort_keys=True).encode())


@torch.no_grad()
def weights_digest(state: dict[str, Tensor]) -> str:
    """Returns a short name of trained weights."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_LENGTH]


def vocabulary_digest(*vocabularies: Vocabulary) -> str:
    """Returns a short name of class names, which may come from a file that changes."""
    return _digest(json.dumps([each.synonyms for each in vocabularies]).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_LENGTH]
