"""Diffusion paths, samplers and guidance, free of any network or image."""
