"""The native training loop: step, optimizer, schedule, sampling, checkpoints."""
