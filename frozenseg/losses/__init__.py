"""The training loss: matching of queries with targets, classification and mask losses."""

from frozenseg.losses.criterion import Criterion
from frozenseg.losses.matcher import HungarianMatcher, Match

__all__ = ["Criterion", "HungarianMatcher", "Match"]
