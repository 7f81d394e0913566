"""The latent-space study: latents of many images, their projections, distances and probes."""
