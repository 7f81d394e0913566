"""What the latent-space study calls things; imports nothing, so that a command line is checked at once."""

METHODS = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}

ATTRIBUTES = {
    "height_mm": "bone height, mm",
    "width_quarter_mm": "width at ¼ height, mm",
    "width_half_mm": "width at ½ height, mm",
    "width_three_quarters_mm": "width at ¾ height, mm",
    "area_mm2": "area, mm²",
    "density": "mean grey value, raw units",
}
"""What is measured of each image's bone (with the tooth, where there is one), in words."""

COLORS = ("group", "patient", "split", *ATTRIBUTES)
"""What a picture can be coloured by."""
