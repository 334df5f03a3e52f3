"""Tools that explain a model: diagnosis, speed, attention, clusters, parameter summary."""
