"""Drawing of a cross-section of the phantom, with tooth and healed, from its anatomy and textures."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from pti.data.phantom.anatomy import Section
from pti.data.phantom.shapes import Band, Tooth, distance, jaw_band, place_tooth, smooth_minimum
from pti.data.phantom.style import DEFAULT, Style
from pti.data.phantom.texture import COLUMNS, ROWS, Texture

JAW_MM = 24.0
"""Width of image that an upright jaw needs."""

LIGAMENT_HU, PULP_HU, NERVE_HU = 60.0, 70.0, 40.0
DENTINE_HU, ENAMEL_HU, METAL_HU = 1480.0, 2650.0, 20000.0


def draw_section(
    section: Section, texture: Texture, image_size: int, pixel_mm: float, style: Style = DEFAULT
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the two images of a pair.

    Args:
        section: the anatomy.
        texture: random fields of (image_size, image_size·5/8).
        image_size: rows and columns.
        pixel_mm: pixel size at this image size, mm.
        style: scanner, and place of the jaw in the image.

    Returns:
        dente and edente, each float32 (image_size, image_size), HU + offset, background exactly 0. Both
        show the same bone at the same place; where healing changes nothing they differ only by acquisition
        noise.
    """
    x, y = _coordinates(section, image_size, pixel_mm, style)
    texture = texture.widened(x.shape[1])
    painter = _Painter(section, texture, x, y, pixel_mm, place_tooth(section, x, y))
    images = []
    for (tissue, inside), noise in zip((painter.dente(), painter.edente()), texture.noise, strict=True):
        image = np.zeros((image_size, image_size), np.float32)
        left = (image_size - tissue.shape[1]) // 2
        tissue = np.minimum(tissue, style.saturation_hu)
        tissue = np.asarray(gaussian_filter(tissue, style.blur_mm / pixel_mm, mode="nearest", truncate=3))
        raw = np.maximum(tissue + style.noise_hu * noise + style.offset_hu, 1) * _rim(inside, pixel_mm)
        image[:, left : left + tissue.shape[1]] = raw
        images.append(image)
    return images[0], images[1]


def _coordinates(
    section: Section, image_size: int, pixel_mm: float, style: Style
) -> tuple[np.ndarray, np.ndarray]:
    """Compute x (1 or rows, columns) and y (rows, 1), mm, of the image's columns.

    An upright jaw in the centre needs only the middle five eighths of them.
    """
    field = image_size * pixel_mm
    shear, centred = math.tan(math.radians(style.tilt)), not (style.tilt or style.place_x)
    columns = image_size * COLUMNS // ROWS if centred else image_size
    tall = section["crest_height"] + section.neck_height + section["crown_height"]
    free = field - tall
    base = 0.35 * free + 0.3 * free * section["shift_y"] + 0.35 * max(free - 4, 0) * style.place_y
    x = (np.arange(columns) + 0.5 - columns / 2) * pixel_mm - section["shift_x"]
    y = field - base - (np.arange(image_size) + 0.5) * pixel_mm
    if not centred:
        x = x - 0.5 * style.place_x * max(field - JAW_MM - abs(shear) * tall, 0)
        x = x - shear * (y[:, None] - 0.5 * tall)
    return np.atleast_2d(x).astype(np.float32), y[:, None].astype(np.float32)


@dataclass(frozen=True)
class _Painter:
    """Painter of a section: Hounsfield units at each pixel, and signed distance to the surface in mm."""

    section: Section
    texture: Texture
    x: np.ndarray
    y: np.ndarray
    pixel_mm: float
    tooth: Tooth

    def dente(self) -> tuple[np.ndarray, np.ndarray]:
        """Paint bone and tooth."""
        section, tooth = self.section, self.tooth
        band = jaw_band(section, self.y, healed=False)
        lingual = self._lingual(band)
        crest = section["crest_height"] - section["crest_drop"] * (1 - lingual)
        slope = 0.3 * np.maximum(-tooth.inside - section["gap"], 0)  # the crest slopes down from the tooth
        bone = smooth_minimum(distance(band, self.x), crest - self.y - slope, 1.1)
        hu = self._bone_hu(bone, self._cortex(lingual), self.texture.struts)
        lamina = self._cover(tooth.inside + section["gap"] + section["lamina"]) * self._uneven(0.85)
        hu = _blend(hu, section["cortex_hu"] - 150, lamina)
        hu = _blend(hu, LIGAMENT_HU, self._cover(tooth.inside + section["gap"]))
        # Only the tooth is drawn above the crest, so that no ligament darkens the surface of the crown.
        drawn = np.maximum(self._cover(tooth.inside), 1 - self._cover(bone))
        return _blend(hu, self._tooth_hu(), drawn), np.maximum(bone, tooth.inside)

    def edente(self) -> tuple[np.ndarray, np.ndarray]:
        """Paint the healed bone."""
        section, texture, tooth = self.section, self.texture, self.tooth
        band = jaw_band(section, self.y, healed=True)
        bone = distance(band, self.x)
        thickness = self._cortex(self._lingual(band))
        young = np.exp(-(((section.healed_height - self.y) / 4) ** 2))
        thickness = thickness + (section["healed_cortex"] * (1 + 0.2 * texture.coarse) - thickness) * young
        socket = _smooth_step(tooth.inside + section["gap"] + 0.1, 0.7)
        struts = texture.struts + socket * (0.25 + 0.6 * texture.woven - texture.struts)
        hu = self._bone_hu(bone, thickness, struts)
        ghost = np.exp(-0.5 * ((tooth.inside + section["gap"] + 0.15) / 0.22) ** 2) * (bone > 0.8)
        return hu + 140 * ghost * self._uneven(0.5), bone

    def _bone_hu(self, inside: np.ndarray, thickness: np.ndarray, struts: np.ndarray) -> np.ndarray:
        """Paint bone ``inside`` mm below its surface: cortex, trabeculae and canal."""
        section, texture = self.section, self.texture
        density = section["cue_density"]
        near = np.exp(-np.maximum(inside - thickness, 0) / 1.6)
        share = struts * (0.85 + 0.3 * near + 0.14 * density) + 0.05 * texture.coarse + 0.06 * density
        hu = -20 + 860 * np.clip(share, 0, 1.25)
        compact = section["cortex_hu"] + 70 * texture.coarse + 55 * texture.fine
        hu = _blend(hu, compact, _smooth_step(thickness + 0.5 * (struts - 0.4) - inside, 0.6))
        canal = self._canal()
        wall = np.clip(0.55 + 0.3 * texture.coarse + 0.5 * struts, 0, 1)
        hu = _blend(hu, 0.6 * section["cortex_hu"], _smooth_step(canal + section["canal_rim"], 0.25) * wall)
        return _blend(hu, NERVE_HU + 25 * texture.coarse, _smooth_step(canal, 0.3))

    def _canal(self) -> np.ndarray:
        """Compute the signed distance (mm, approximate) to the uneven wall of the mandibular canal."""
        section = self.section
        x, y = self.x - section["canal_offset"], (self.y - section["canal_height"]) / section["canal_flat"]
        return section["canal_radius"] + 0.13 * self.texture.coarse - np.sqrt(x**2 + y**2)

    def _lingual(self, band: Band) -> np.ndarray:
        """Rise smoothly from 0 on the buccal to 1 on the lingual side."""
        return 0.5 * (1 + np.tanh((self.x - band.centre) / 1.2))

    def _cortex(self, lingual: np.ndarray) -> np.ndarray:
        """Compute the thickness of the cortex: thick at the base, thin at the crest, thicker lingually."""
        section = self.section
        height = self.y / section["crest_height"]
        base = np.exp(-((np.maximum(height, 0) / 0.2) ** 2))
        top = np.clip((height - 0.55) / 0.4, 0, 1)
        buccal = section["cortex_buccal"]
        buccal = buccal + (section.plate_buccal * 0.85 - buccal) * top
        thickness = buccal + (section["cortex_lingual"] * (1 - 0.35 * top) - buccal) * lingual
        return (thickness + (section["cortex_base"] - thickness) * base) * (1 + 0.12 * self.texture.coarse)

    def _tooth_hu(self) -> np.ndarray:
        """Paint dentine, enamel and pulp."""
        texture, tooth = self.texture, self.tooth
        crown = np.clip(tooth.v / self.section["crown_height"], 0, 1)
        hu = DENTINE_HU + 30 * texture.coarse + 25 * texture.fine + 90 * np.tanh(tooth.inside / 1.5 - 1)
        enamel = self._cover(self.section["enamel"] * np.sqrt(crown) * 1.1 - tooth.inside)
        hu = _blend(hu, ENAMEL_HU + 40 * texture.fine, enamel * self._cover(tooth.v))
        hu = _blend(hu, PULP_HU, self._cover(_pulp(self.section, tooth)))
        return _blend(hu, METAL_HU, self._cover(tooth.v - 0.5)) if self.section.metal else hu

    def _cover(self, inside: np.ndarray) -> np.ndarray:
        """Compute the fraction of a pixel that lies inside a border at a signed distance (mm)."""
        return np.clip(inside / self.pixel_mm + 0.5, 0, 1)

    def _uneven(self, level: float) -> np.ndarray:
        """Vary a level by the coarse texture, within [0, 1]."""
        return np.clip(level + 0.15 * self.texture.coarse, 0, 1)


def _pulp(section: Section, tooth: Tooth) -> np.ndarray:
    """Compute the signed distance (mm, approximate) to the pulp: a two-horned chamber, one or two canals."""
    length, width, v = section["root_length"], section["pulp"], tooth.v
    down = np.clip(-v / length, 0, 1)
    u = tooth.u - np.where(v > 0, 0.4, 1) * tooth.bend
    canal = 0.13 + (0.45 * width - 0.1) * (1 - down) ** 1.2
    apart = section["canals"] * tooth.half * _smooth_step(-v - 1.5, 4) * (1 - 0.35 * down)
    roots = np.minimum(canal - np.abs(np.abs(u) - apart), -v)
    roof = 0.4 * tooth.top - v
    chamber = smooth_minimum(width * (1 - 0.1 * np.abs(v)) - np.abs(u), roof, 0.8)
    chamber = smooth_minimum(chamber, v + 2.6, 1.2)
    whole = -smooth_minimum(-chamber, -roots, 0.8)
    return np.minimum(whole, v + length - 0.3)


def _blend(below: np.ndarray, above: np.ndarray | float, share: np.ndarray) -> np.ndarray:
    return below + (above - below) * share


def _rim(inside: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Compute the fraction of tissue in the pixels of the surface.

    The ramp is placed so that half the typical tissue value lies on the outline, where the bone is compact
    and brighter: the measuring rule for bone then finds the true outline.
    """
    share = np.clip(inside / pixel_mm + 0.38, 0, 1)
    return np.where(share < 0.02, 0, share)


def _smooth_step(inside: np.ndarray, width: float) -> np.ndarray:
    t = np.clip(inside / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)
