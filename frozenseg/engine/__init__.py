"""Running the method without Detectron2: training, evaluation, checkpoints, several processes."""
