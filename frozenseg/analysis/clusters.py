"""Clusters of SAM's image features by k-means (Fig. 7)."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from scipy.cluster.vq import kmeans2
from torch import Tensor

from frozenseg.modeling.layers import tokens_of
from frozenseg.towers.sam import SamTower
from frozenseg.visualization.layout import enlarged
from frozenseg.visualization.palette import class_color

ROUNDS = 50  # of k-means, which has long settled by then


@torch.inference_mode()
def cluster_maps(
    tower: SamTower, images: Sequence[Tensor], num_clusters: int, *, seed: int = 0
) -> list[Tensor]:
    """The cluster of each cell of SAM's embedding, (h, w) for each image; cells cover the image.

    Clusters are those of all images together, so that they mean the same in all of them.

    Args:
        images: (3, H, W) RGB in 0..255.
    """
    features = [
        tower(tower.normalize([image], (image.shape[-2], image.shape[-1]))) for image in images
    ]
    points = torch.cat([tokens_of(each)[0] for each in features])
    labels = k_means(points.float().cpu(), num_clusters, seed=seed)
    cells = [each.shape[-2:] for each in features]
    parts = labels.split([height * width for height, width in cells])
    return [part.view(size) for part, size in zip(parts, cells, strict=True)]


def k_means(points: Tensor, num_clusters: int, *, seed: int = 0) -> Tensor:
    """The cluster of each of (N, C) points, (N,) int64, the largest cluster first.

    Centres begin as points far from each other (k-means++).
    """
    _, found = kmeans2(points.numpy(), num_clusters, iter=ROUNDS, minit="++", rng=seed)
    labels = torch.from_numpy(found).long()
    order = labels.bincount(minlength=num_clusters).argsort(descending=True, stable=True)
    return order.argsort()[labels]


def draw_clusters(image: Tensor, clusters: Tensor) -> Image.Image:
    """The (h, w) clusters of a (3, H, W) image's cells in colours, at the size of its picture."""
    colors = np.array([class_color(index) for index in range(int(clusters.max()) + 1)], np.uint8)
    cells = Image.fromarray(colors[clusters.numpy()])
    size = enlarged(image.permute(1, 2, 0).cpu().numpy()).size
    return cells.resize(size, Image.Resampling.NEAREST)
