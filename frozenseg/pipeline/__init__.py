"""The pipeline: a proposer, a region classifier, text rows and a fusion rule make up a system."""
