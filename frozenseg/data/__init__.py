"""Images and their annotations: the shapes world, data set readers, augmentation, loaders."""
