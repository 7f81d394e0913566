"""Options of the latent-space study and their labels; imports nothing, so that commands start fast."""

METHODS = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}
"""Projection methods and their labels."""

ATTRIBUTES = {
    "height_mm": "bone height, mm",
    "width_quarter_mm": "width at ¼ height, mm",
    "width_half_mm": "width at ½ height, mm",
    "width_three_quarters_mm": "width at ¾ height, mm",
    "area_mm2": "area, mm²",
    "density": "mean grey value, raw units",
}
"""Bone attributes measured in each image (with the tooth, where there is one) and their labels."""

LABELS = ("group", "patient", "split")
"""Text columns of `pti.latent_study.latents.Latents` that points can be coloured by."""

COLORS = (*LABELS, *ATTRIBUTES)
"""Values of ``color_by``."""

RANGES: dict[str, tuple[float, float | None]] = {
    "n_neighbors": (2, None),
    "min_dist": (0, 1),
    "perplexity": (1, None),
    "seed": (0, 2**32 - 1),
    "batch_size": (1, None),
    "max_images": (1, None),
}
"""Lowest and highest allowed value of each numeric key of ``conf/latent_study.yaml``; None = no limit."""
