"""Checks of a data set that read no pixels, shared by `train` and `check`."""
