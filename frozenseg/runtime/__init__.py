"""Processes, signals, devices, progress and run folders."""
