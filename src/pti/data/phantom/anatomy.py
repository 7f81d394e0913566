"""Anatomy of the phantom: parameters of a patient's slices, and the true height after healing.

The height of the edente bone is

    height = crest_height − L · (1 + 0.15 · chance),    chance ~ N(0, 1), one draw for each patient,
    L = 3.0 + 2.2 · tanh((−0.75 · plate − 0.45 · density + 0.5 · support) / 1.9)  mm.

*plate*, *density* and *support* are standard scores that are visible in the dente image: the thickness of
the buccal plate at the crest (1.1 + 0.3 · plate mm), the trabecular density (fraction of bone and its
brightness), and the distance from the crest to the neck of the tooth (1.9 + 0.4 · support mm). Thin plates,
less dense bone and less support increase the loss. Given the dente image, the height is therefore normally
distributed with mean crest_height − L and standard deviation 0.15 · L (0.12–0.78 mm, 0.45 mm on average).
All slices of a patient share ``chance``: how fast a person's bone resorbs is visible in none of the images.
"""

import math
from dataclasses import dataclass

import numpy as np

from pti.data.phantom.style import DEFAULT, Style

SLICE_SPACING_MM = 0.5

MEAN_LOSS_MM = 3.0
LOSS_RANGE_MM = 2.2
RELATIVE_LOSS_STD = 0.15
"""Standard deviation of the loss between patients with equal dente images, relative to the expected loss."""

# name: (minimum, maximum, largest drift along the slices), drawn uniformly for each patient; in mm unless
# stated otherwise
_COMMON = {
    "crest_height": (22.3, 25.6, 0.25),  # base to the lingual crest
    "crest_drop": (0.0, 0.8, 0.15),  # buccal crest below the lingual crest
    "base_width": (8.6, 10.6, 0.15),
    "base_round": (3.6, 5.2, 0.1),  # height over which the lower border is rounded
    "belly_width": (11.2, 13.4, 0.2),  # at a third of the height
    "fossa": (0.2, 1.5, 0.15),  # depth of the submandibular fossa on the lingual side
    "lean": (-0.6, 1.6, 0.1),  # offset of the crest from the base, to the lingual
    "cortex_base": (2.0, 2.9, 0.1),
    "cortex_buccal": (1.3, 1.9, 0.1),
    "cortex_lingual": (1.6, 2.3, 0.1),
    "cortex_hu": (1350, 1560, 15),  # Hounsfield units
    "strut_mm": (0.72, 0.95, 0.0),  # distance between trabeculae
    "strut_angle": (-0.35, 0.35, 0.0),  # radians
    "canal_height": (5.8, 7.4, 0.25),
    "canal_offset": (-1.2, 1.6, 0.3),  # to the lingual
    "canal_radius": (1.15, 1.5, 0.05),
    "canal_flat": (0.82, 1.15, 0.03),  # height / width
    "canal_rim": (0.28, 0.42, 0.03),
    "tooth_angle": (-0.14, 0.16, 0.015),  # radians, crown to the lingual
    "root_length": (12.4, 14.4, 0.2),  # from the neck to the apex
    "root_bend": (-1.0, 1.0, 0.1),  # offset of the apex, to the lingual
    "gap": (0.20, 0.28, 0.01),  # periodontal ligament
    "lamina": (0.24, 0.38, 0.02),  # lamina dura
    "plate_lingual": (1.4, 2.4, 0.1),
    "cusp_fossa": (0.9, 1.5, 0.1),
    "cusp_step": (0.2, 0.9, 0.1),  # buccal cusp above the lingual cusp
    "enamel": (1.5, 2.0, 0.05),
    "ridge_round": (2.6, 4.0, 0.1),  # height over which the healed crest is rounded
    "healed_cortex": (0.6, 1.1, 0.05),
    "shift_x": (-1.2, 1.2, 0.05),  # horizontal position of the jaw in the image
    "shift_y": (0.0, 1.0, 0.03),  # vertical position: part of the free height that lies below the base
}
# name: the same for a premolar and for a molar
_TEETH = {
    "neck": ((3.2, 3.6, 0.05), (4.1, 4.6, 0.05)),  # half the width of the tooth's neck
    "bulge": ((0.45, 0.75, 0.03), (0.5, 0.9, 0.03)),
    "taper": ((0.74, 0.84, 0.01), (0.80, 0.88, 0.01)),  # half-width of the middle of the root / neck
    "apex": ((0.34, 0.44, 0.01), (0.40, 0.52, 0.01)),  # half-width near the apex / neck
    "crown_height": ((7.0, 7.8, 0.1), (6.6, 7.3, 0.1)),
    "pulp": ((0.55, 0.8, 0.03), (0.9, 1.25, 0.03)),
    "canals": ((0.0, 0.0, 0.0), (0.42, 0.52, 0.01)),  # distance between two root canals / width of the root
}


@dataclass(frozen=True, eq=False)
class Section:
    """Parameters of one cross-section and the lengths derived from them, in mm.

    Attributes:
        parameters: each drawn parameter by name (units in the tables of this module), the cues (standard
            scores) and ``chance`` (standard score).
        tooth: ``premolar`` or ``molar``.
        wobble: amplitudes, wavelengths (mm) and phases of the outline's irregularity; (buccal and lingual, 3,
            waves).
        two_roots: Whether the roots of the tooth are separate.
        metal: Whether the tooth has a metal crown.
    """

    parameters: dict[str, float]
    tooth: str
    wobble: np.ndarray
    two_roots: bool = False
    metal: bool = False

    def __getitem__(self, name: str) -> float:
        return self.parameters[name]

    @property
    def plate_buccal(self) -> float:
        """Thickness of the bone on the buccal side of the root near the crest."""
        return 1.1 + 0.3 * self["cue_plate"]

    @property
    def neck_height(self) -> float:
        """Height of the tooth's neck above the crest; larger after periodontal disease."""
        return 1.9 + 0.4 * self["cue_support"]

    @property
    def expected_loss(self) -> float:
        """Expected loss of height given the dente image; see the top of this module."""
        score = -0.75 * self["cue_plate"] - 0.45 * self["cue_density"] + 0.5 * self["cue_support"]
        return MEAN_LOSS_MM + LOSS_RANGE_MM * math.tanh(score / 1.9)

    @property
    def healed_height(self) -> float:
        """Height of the edente bone, base to crest."""
        return self["crest_height"] - self.expected_loss * (1 + RELATIVE_LOSS_STD * self["chance"])


def draw_patient(seed: int, patient: int, slices: int, style: Style = DEFAULT) -> list[Section]:
    """Draw the neighbouring slices of one patient.

    Args:
        seed: seed of the data set.
        patient: index of the patient, from 0. Neither the number of patients nor that of slices changes the
            anatomy.
        slices: number of neighbouring slices, 0.5 mm apart.
        style: share of each kind of tooth, and thickness of the cortex.
    """
    rng = np.random.default_rng([seed, patient])
    tooth = "molar" if rng.random() < style.molars else "premolar"
    table = _COMMON | {name: ranges[tooth == "molar"] for name, ranges in _TEETH.items()}
    low, high, drift = np.array(list(table.values())).T
    names = [*table, "cue_plate", "cue_density", "cue_support"]
    scores = 2 * np.tanh(rng.standard_normal(3) / 1.7)
    level = np.concatenate([rng.uniform(low, high), scores])
    drift = np.concatenate([drift, np.full(3, 0.25)]) * rng.uniform(0.5, 1, len(names))
    wavelength, phase = rng.uniform(7, 14, len(names)), rng.uniform(0, 2 * np.pi, len(names))
    chance = float(rng.standard_normal())
    wobble = _draw_wobble(rng)
    rare = np.random.default_rng([seed, patient, 2])
    two_roots, metal = bool(rare.random() < style.two_roots), bool(rare.random() < style.metal)
    roll = rng.uniform(-0.25, 0.25, wobble[:, 2].shape)
    sections = []
    for index in range(slices):
        angle = 2 * np.pi * index * SLICE_SPACING_MM / wavelength + phase
        values = level + drift * np.sin(angle)
        parameters = dict(zip(names, values.tolist(), strict=True)) | {"chance": chance}
        for name in ("cortex_base", "cortex_buccal", "cortex_lingual", "healed_cortex"):
            parameters[name] *= style.cortex
        parameters["strut_mm"] *= style.grain
        if two_roots:
            parameters["canals"] = 0.7
        moved = wobble.copy()
        moved[:, 2] += index * roll
        sections.append(Section(parameters, tooth, moved, two_roots, metal))
    return sections


def _draw_wobble(rng: np.random.Generator) -> np.ndarray:
    """Draw five waves each for the buccal and the lingual outline; short waves have small amplitudes."""
    wavelength = rng.uniform(3, 13, (2, 5))
    amplitude = rng.uniform(0.03, 0.11, (2, 5)) * np.sqrt(wavelength / 13)
    return np.stack([amplitude, wavelength, rng.uniform(0, 2 * np.pi, (2, 5))], axis=1)
