"""Latents in two dimensions: PCA, UMAP (McInnes et al. 2018), t-SNE (van der Maaten & Hinton 2008)."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from pti.common.errors import DataError
from pti.latent_study.names import METHODS

FEWEST = 5
"""Images that a projection needs."""

_COMPONENTS = 50


@dataclass(frozen=True)
class Components:
    """Latents by their principal components.

    Attributes:
        scores: (N, K) float32, centred, the component with the largest variance first.
        shares: (K,) of the latents' variance.
    """

    scores: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Settings:
    """How UMAP and t-SNE look at their neighbours.

    Attributes:
        n_neighbors: UMAP: how many images make a neighbourhood; few show detail, many the whole.
        min_dist: UMAP: how close points may lie, 0 to 1.
        perplexity: t-SNE: about how many images make a neighbourhood.
        seed: of both.
    """

    n_neighbors: int = 40
    min_dist: float = 0.5
    perplexity: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Projection:
    """Where each image lies in the plane.

    Attributes:
        method: one of `pti.latent_study.names.METHODS`.
        points: (N, 2) float32.
        axes: what the two axes are called.
        note: the settings, in words.
    """

    method: str
    points: np.ndarray
    axes: tuple[str, str]
    note: str


def principal_components(flat: np.ndarray, seed: int = 0) -> Components:
    """PCA to 50 components, or as many as the number of images allows.

    Args:
        flat: (N, D) latents.
        seed: of the randomised solver that is used for many images.

    Raises:
        DataError: there are fewer than `FEWEST` images.
    """
    from sklearn.decomposition import PCA

    if len(flat) < FEWEST:
        raise DataError(
            f"found {len(flat)} images, expected {FEWEST} or more to project. Set split=all, or max_images."
        )
    pca = PCA(min(_COMPONENTS, len(flat) - 1, flat.shape[1]), random_state=seed)
    scores = pca.fit_transform(flat)
    return Components(scores.astype(np.float32), pca.explained_variance_ratio_)


def fit_to(settings: Settings, count: int) -> tuple[Settings, str]:
    """Settings that suit a number of images, and what was changed, in words (empty for nothing).

    A neighbourhood larger than a third of the images says nothing about neighbours.
    """
    most = max(2, (count - 1) // 3)
    fitted = replace(
        settings,
        n_neighbors=min(settings.n_neighbors, most),
        perplexity=min(settings.perplexity, float(most)),
    )
    changes = [
        f"{key}={getattr(fitted, key):g} instead of {getattr(settings, key):g}"
        for key in ("n_neighbors", "perplexity")
        if getattr(fitted, key) != getattr(settings, key)
    ]
    return fitted, f"{count} images: {', '.join(changes)}." if changes else ""


def project(components: Components, method: str, settings: Settings) -> Projection:
    """Project by one method; the same settings and seed give the same points.

    Args:
        components: of the latents.
        method: one of `pti.latent_study.names.METHODS`.
        settings: from `fit_to`.
    """
    title = METHODS[method]
    if method == "pca":
        axes = tuple(
            f"PC {n + 1} ({share:.0%} of the variance)" for n, share in enumerate(components.shares[:2])
        )
        return Projection(method, components.scores[:, :2], (axes[0], axes[1]), "")
    points, note = (_umap if method == "umap" else _tsne)(components.scores, settings)
    return Projection(method, points.astype(np.float32), (f"{title} 1", f"{title} 2"), note)


def _umap(scores: np.ndarray, settings: Settings) -> tuple[np.ndarray, str]:
    import umap  # compiles itself: takes seconds, which the other methods need not wait for

    threads = torch.get_num_threads()
    # Begun at the principal components, so that the large structure is kept (Kobak & Linderman 2021).
    found = umap.UMAP(
        n_neighbors=settings.n_neighbors,
        min_dist=settings.min_dist,
        init=scores[:, :2],  # pyright: ignore[reportArgumentType]  (its own type says str alone)
        random_state=settings.seed,
        n_jobs=1,  # all that a fixed seed allows
    ).fit_transform(scores)
    # numba's threads are also torch's, and it sets them to the number of cores: more than was asked for, and
    # with another number torch rounds otherwise.
    torch.set_num_threads(threads)
    return np.asarray(found), f"n_neighbors={settings.n_neighbors}, min_dist={settings.min_dist:g}"


def _tsne(scores: np.ndarray, settings: Settings) -> tuple[np.ndarray, str]:
    from sklearn.manifold import TSNE

    found = TSNE(perplexity=settings.perplexity, init="pca", random_state=settings.seed).fit_transform(scores)
    return found, f"perplexity={settings.perplexity:g}"
