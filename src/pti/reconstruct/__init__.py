"""The command ``python -m pti.reconstruct``."""
