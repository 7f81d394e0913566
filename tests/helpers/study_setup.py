"""Latents made by hand: two groups, patients close together, one direction that follows the bone."""

import numpy as np

from pti.latent_study.latents import Latents
from pti.latent_study.names import ATTRIBUTES


def made_latents(patients: int = 8, slices: int = 3, apart: float = 2.0, seed: int = 0) -> Latents:
    """dente and edente images; a patient's lie 0.05 around its own place, groups ``apart`` in one channel."""
    random = np.random.default_rng(seed)
    places = random.normal(0, 1, (patients, 2, 4, 4))
    heights = random.uniform(15, 25, patients)
    rows = []
    for group, shift in (("dente", 0.0), ("edente", apart)):
        for patient in range(patients):
            for position in range(slices):
                mean = places[patient] + random.normal(0, 0.05, (2, 4, 4))
                mean[1] += shift
                mean[0, 0, 0] = heights[patient] - 20
                rows.append(
                    (
                        f"{group}/{position:03d}_HA_2021_02_{patient:03d}",
                        group,
                        f"{patient:03d}",
                        mean,
                        heights[patient],
                    )
                )
    rows.sort(key=lambda row: row[0])
    names, groups, owners, means, found = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    attributes = {name: random.normal(size=count) for name in ATTRIBUTES} | {"height_mm": np.array(found)}
    channels = np.ones((count, 2), np.float32)
    return Latents(
        *(np.array(column, str) for column in (names, groups, owners, ["test"] * count)),
        mean=np.array(means, np.float32),
        std=0.5 * channels,
        kl=3 * channels,
        attributes=attributes,
    )
