"""Mining pairs of a masked region and a noun from captioned images (OVSeg, sec. 3.2)."""
