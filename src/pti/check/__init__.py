"""Command ``check``: examine a data set before training."""
