"""pti: predict the toothless jaw bone from a cross-section with the tooth, by latent diffusion."""

__version__ = "0.1.0"
