"""The evaluation loop over a data set, feeding the metrics."""
