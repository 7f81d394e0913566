"""Contents of the output folders: checkpoints, manifests, summaries and locks."""
