"""Image pairs of the phantom's patients, with their true sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.data import tif
from pti.data.phantom.anatomy import RELATIVE_LOSS_STD, Section, draw_patient
from pti.data.phantom.section import draw_section
from pti.data.phantom.shapes import crown_tip, jaw_width
from pti.data.phantom.style import DEFAULT, Style
from pti.data.phantom.texture import draw_textures
from pti.metrics.morphometry import FRACTIONS, HEIGHTS_MM

SITES = ("HA", "MB", "RV")


@dataclass(frozen=True)
class PhantomPair:
    """A drawn pair.

    Attributes:
        name: file name without its ending.
        dente: (H, W) float32 raw image, (HU + offset) · gain, background 0.
        edente: the healed bone, in the same form.
        truth: row of truth.csv.
    """

    name: str
    dente: np.ndarray
    edente: np.ndarray
    truth: dict[str, Any]


def draw_pairs(
    seed: int, patient: int, slices: int, image_size: int, pixel_mm: float, style: Style = DEFAULT
) -> Iterator[PhantomPair]:
    """Draw the pairs of one patient.

    The gain of the scanner varies between patients. Each image has independent acquisition noise; apart from
    this, the undisturbed bone of a pair is drawn identically to the bit.

    Args:
        seed: seed of the data set.
        patient: index of the patient, from 0.
        slices: number of slices.
        image_size: rows and columns.
        pixel_mm: pixel size at 256 rows, mm, of an adult's jaw in the smallest field of view.
        style: the scanner, and the kind of jaws.
    """
    drawn_edge = pixel_mm * style.field * 256 / image_size
    edge = drawn_edge * style.jaw_size
    sections = draw_patient(seed, patient, slices, style)
    rng = np.random.default_rng([seed, patient, 1])
    gain = np.float32(style.scale * (1 + style.gain * rng.uniform(-1, 1)))
    suffix = f"{SITES[rng.integers(len(SITES))]}_{rng.integers(2018, 2026)}_{rng.integers(1, 13):02d}"
    suffix += f"_{patient + 1:03d}"
    strut_mm, strut_angle = sections[0]["strut_mm"], sections[0]["strut_angle"]
    textures = draw_textures(rng, slices, image_size, pixel_mm * style.field, strut_mm, strut_angle)
    for index, (section, texture) in enumerate(zip(sections, textures, strict=True)):
        name = f"{1000 + index}_{suffix}"
        dente, edente = draw_section(section, texture, image_size, drawn_edge, style)
        sizes = true_sizes(section, edge, style.jaw_size)
        truth = {"name": name, "patient": f"{patient + 1:03d}", "pixel_mm": edge, **sizes}
        parameters = {"tooth": section.tooth, "gain": float(gain), **section.parameters}
        yield PhantomPair(name, gain * dente, gain * edente, truth | parameters)


def true_sizes(section: Section, pixel_mm: float, jaw_size: float = 1.0) -> dict[str, float]:
    """Compute the true sizes under the names of `pti.metrics.morphometry`; NaN for a width above the crest.

    ``height_mean_mm`` and ``height_std_mm`` describe the normal distribution of the edente height given the
    dente image. ``dente_height`` reaches to the tip of the crown, ``dente_crest_height`` to the lingual crest
    of the bone.

    Args:
        section: the anatomy, of an adult.
        pixel_mm: pixel size, mm.
        jaw_size: size of the jaw relative to the adult's.
    """
    height = section.healed_height
    lengths = {"height": height}
    lengths |= {f"width_{name}": jaw_width(section, share * height) for name, share in FRACTIONS.items()}
    lengths |= {f"width_at_{mm}mm": jaw_width(section, mm / jaw_size) or np.nan for mm in HEIGHTS_MM}
    lengths["dente_height"] = crown_tip(section)
    lengths["dente_crest_height"] = section["crest_height"]
    sizes = {}
    for name, length in lengths.items():
        sizes[f"{name}_px"], sizes[f"{name}_mm"] = jaw_size * length / pixel_mm, jaw_size * length
    return sizes | {
        "loss_mm": jaw_size * (section["crest_height"] - height),
        "height_mean_mm": jaw_size * (section["crest_height"] - section.expected_loss),
        "height_std_mm": jaw_size * (RELATIVE_LOSS_STD * section.expected_loss),
    }


def write_pair(folder: Path, pair: PhantomPair) -> tuple[Path, Path]:
    """Write both images of a pair below the data set's folder; return the paths of dente and edente."""
    paths = folder / "dente" / f"{pair.name}.tif", folder / "edente" / f"{pair.name}.tif"
    for path, image in zip(paths, (pair.dente, pair.edente), strict=True):
        tif.write(path, image, pair.truth["pixel_mm"])
    return paths
