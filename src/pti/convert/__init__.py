"""Command ``convert``: settings and weights of PTI-LDM-VAE become ours."""
