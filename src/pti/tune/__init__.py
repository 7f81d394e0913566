"""Command ``tune``: a search over chosen keys of a training, with Optuna."""
