"""From images to results: the predictor, the outputs of each task, the interface for users."""
