"""What training minimises: who is matched with whom, and how far apart they are."""

from frozenseg.losses.criterion import Criterion
from frozenseg.losses.matcher import HungarianMatcher, Match

__all__ = ["Criterion", "HungarianMatcher", "Match"]
