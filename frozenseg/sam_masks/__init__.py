"""SAM's zero-shot masks: generation, cache, and generation for whole data sets."""
