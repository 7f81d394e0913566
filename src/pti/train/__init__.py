"""Command ``train``: train the model of an experiment."""
