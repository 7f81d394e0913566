"""Lightning modules of both stages, and their data module."""
