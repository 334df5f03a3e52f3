"""Images and their annotations: the built-in shapes world, data set readers, augmentation, loaders."""
