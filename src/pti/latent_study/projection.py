"""Projections to the plane: PCA, UMAP (McInnes et al. 2018), t-SNE (van der Maaten & Hinton 2008)."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from pti.common.errors import DataError
from pti.latent_study.options import METHODS

MIN_IMAGES = 5
"""Smallest number of images that can be projected."""

_MAX_COMPONENTS = 50


@dataclass(frozen=True)
class PrincipalComponents:
    """Latents in the basis of their principal components.

    Attributes:
        scores: (N, K) float32, centred; the component with the largest variance comes first.
        explained_variance: (K,) share of the latents' variance that each component explains.
    """

    scores: np.ndarray
    explained_variance: np.ndarray


@dataclass(frozen=True)
class ProjectionSettings:
    """Settings of UMAP and t-SNE.

    Attributes:
        n_neighbors: UMAP: number of images in a neighbourhood; few show detail, many the global structure.
        min_dist: UMAP: minimum distance between points, 0 to 1.
        perplexity: t-SNE: approximate number of images in a neighbourhood.
        seed: Random seed of both methods.
    """

    n_neighbors: int = 40
    min_dist: float = 0.5
    perplexity: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Projection:
    """Positions of the images in the plane.

    Attributes:
        method: One of `pti.latent_study.options.METHODS`.
        points: (N, 2) float32.
        axes: Labels of the two axes.
        note: The settings as text; empty for PCA.
    """

    method: str
    points: np.ndarray
    axes: tuple[str, str]
    note: str


def principal_components(flat: np.ndarray, seed: int = 0) -> PrincipalComponents:
    """Compute up to 50 principal components, fewer when there are fewer images or latent values.

    Args:
        flat: (N, D) latents.
        seed: Seed of the randomised solver that scikit-learn uses for large inputs.

    Raises:
        DataError: There are fewer than `MIN_IMAGES` images.
    """
    from sklearn.decomposition import PCA

    if len(flat) < MIN_IMAGES:
        raise DataError(
            f"found {len(flat)} images, expected at least {MIN_IMAGES} for a projection. "
            "Set split=all, or raise max_images."
        )
    pca = PCA(min(_MAX_COMPONENTS, len(flat) - 1, flat.shape[1]), random_state=seed)
    scores = pca.fit_transform(flat)
    return PrincipalComponents(scores.astype(np.float32), pca.explained_variance_ratio_)


def adapt_to_count(settings: ProjectionSettings, count: int) -> tuple[ProjectionSettings, str]:
    """Limit a neighbourhood to a third of the images, since a larger one carries no local information.

    Returns:
        The adapted settings, and a message that lists the changes (empty if there are none).
    """
    limit = max(2, (count - 1) // 3)
    adapted = replace(
        settings,
        n_neighbors=min(settings.n_neighbors, limit),
        perplexity=min(settings.perplexity, float(limit)),
    )
    changes = [
        f"{key}={getattr(adapted, key):g} instead of {getattr(settings, key):g}"
        for key in ("n_neighbors", "perplexity")
        if getattr(adapted, key) != getattr(settings, key)
    ]
    return adapted, f"{count} images: {', '.join(changes)}." if changes else ""


def project(components: PrincipalComponents, method: str, settings: ProjectionSettings) -> Projection:
    """Project by one method; the same settings and seed give the same points.

    Args:
        components: Principal components of the latents.
        method: One of `pti.latent_study.options.METHODS`.
        settings: Settings from `adapt_to_count`.
    """
    if method == "pca":
        first, second = (
            f"PC {number} ({share:.0%} of the variance)"
            for number, share in enumerate(components.explained_variance[:2], 1)
        )
        return Projection(method, components.scores[:, :2], (first, second), "")
    points, note = (_umap if method == "umap" else _tsne)(components.scores, settings)
    title = METHODS[method]
    return Projection(method, points.astype(np.float32), (f"{title} 1", f"{title} 2"), note)


def _umap(scores: np.ndarray, settings: ProjectionSettings) -> tuple[np.ndarray, str]:
    import umap  # compiles for seconds on import; the other methods must not wait for it

    threads = torch.get_num_threads()
    # Starting from the principal components preserves the global structure (Kobak & Linderman 2021).
    points = umap.UMAP(
        n_neighbors=settings.n_neighbors,
        min_dist=settings.min_dist,
        init=scores[:, :2],  # pyright: ignore[reportArgumentType]  (declared as str only)
        random_state=settings.seed,
        n_jobs=1,  # a fixed seed allows one thread only
    ).fit_transform(scores)
    # numba shares its threads with torch and sets their number to that of the cores; torch rounds differently
    # with another number of threads.
    torch.set_num_threads(threads)
    return np.asarray(points), f"n_neighbors={settings.n_neighbors}, min_dist={settings.min_dist:g}"


def _tsne(scores: np.ndarray, settings: ProjectionSettings) -> tuple[np.ndarray, str]:
    from sklearn.manifold import TSNE

    tsne = TSNE(perplexity=settings.perplexity, init="pca", random_state=settings.seed)
    return tsne.fit_transform(scores), f"perplexity={settings.perplexity:g}"
