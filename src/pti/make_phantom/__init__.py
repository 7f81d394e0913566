"""Command ``make_phantom``: write the phantom data set."""
