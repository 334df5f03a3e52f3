"""Region classifiers: from an image and its masks to CLIP embeddings."""
