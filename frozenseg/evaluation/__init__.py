"""The evaluation loop over a data set: predict, feed the evaluators, write predictions."""
