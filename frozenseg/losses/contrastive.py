"""CLIP's contrastive loss of paired images and texts."""

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(images: Tensor, texts: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Returns the symmetric cross-entropy of a batch of pairs (CLIP, fig. 3).

    Each image is classified among all texts of the batch, and each text among all images. Equal
    texts count as negatives of each other.

    Args:
        images: (N, D) of unit length.
        texts: (N, D) of unit length; row i belongs to image i.
        logit_scale: factor on the cosines.
    """
    logits = logit_scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
