"""Suite ``check``: false alarms and hits of `check` on phantoms of randomly drawn scanners.

Each set is checked twice, by the command itself: as it was drawn, and with faults in some of its pairs.
"""

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pti.benchmark.settings import SuiteSettings

SLICES = 4  # of each patient
ALL_PAIRS = 200  # by default
PAIRS = 40  # in a set
MIN_SIZE = 64  # of a phantom, pixels
SHIFT_PX = 3
ROTATION_DEG = 3.0
PAIR_FAULTS = {"shifted", "unlike", "unjudged", "swapped", "exchanged", "near_duplicate"}
EXPECTED = {
    "shifted by 3 px": {"shifted"},
    "rotated by 3°": {"shifted"},
    "targets swapped across patients": {"swapped"},
    "targets swapped between neighbouring slices": {"swapped"},
    "condition and target exchanged": {"exchanged", "swapped"},
    "noisy copy of another patient": {"near_duplicate"},
}
"""Injected fault -> findings that name it. The slice beside an exchanged one fits it as if swapped."""


def check_suite(settings: SuiteSettings) -> list[dict[str, Any]]:
    """Measure false alarms and hits on ``settings.images`` pairs, 40 for each scanner.

    Returns:
        For each set and for all sets together, the share of sound pairs that a finding names, the number of
        findings on the whole set, and the share of the injected faults of each kind that are found.
    """
    from pti.common.progress import track

    totals: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for seed in track(range(max(1, settings.number_of_images(ALL_PAIRS) // PAIRS)), "Checking sets"):
        counts = _examine_set(settings, seed)
        totals += counts
        rows += _rows(f"style=random seed={seed}", counts)
    return rows + _rows("all sets", totals)


def _rows(what: str, counts: Counter[str]) -> list[dict[str, Any]]:
    """Describe counts as rates in percent, each with the number ``of`` its cases."""
    kinds = {"false alarms": counts["pairs"], **{kind: counts[f"injected: {kind}"] for kind in EXPECTED}}
    rows = [
        {"what": what, "way": way, "unit": "%", "median": 100 * counts[way] / of, "of": of}
        for way, of in kinds.items()
    ]
    whole = counts["findings on the whole set"]
    return [*rows, {"what": what, "way": "findings on the whole set", "unit": "findings", "median": whole}]


def _examine_set(settings: SuiteSettings, seed: int) -> Counter[str]:
    """Draw a set, check it, inject faults, check it again, and count."""
    from pti.data.phantom import make_phantom
    from pti.data.phantom.style import random_style

    folder = settings.scratch / f"set_{seed}"
    size, patients = (
        max(MIN_SIZE, settings.image_size),
        max(4, min(PAIRS, settings.number_of_images(ALL_PAIRS)) // SLICES),
    )
    make_phantom(folder, patients, SLICES, size, seed=seed, style=random_style(seed))
    named = _findings(folder, settings.scratch / "sound")
    counts = Counter({"pairs": patients * SLICES, "false alarms": len([name for name in named if name])})
    counts["findings on the whole set"] = len(named.get("", ()))
    injected = _inject_faults(folder, seed)
    named = _findings(folder, settings.scratch / "faulty")
    for kind, names in injected.items():
        counts[f"injected: {kind}"] += 1
        counts[kind] += any(named.get(name, set()) & EXPECTED[kind] for name in names)
    return counts


def _findings(folder: Path, output_dir: Path) -> dict[str, set[str]]:
    """Run `check` on a set and return the faults of each pair's name; those of the whole set under ''."""
    arguments = ["data=tif", f"data.root={folder}", f"output_dir={output_dir}", "workers=1"]
    subprocess.run([sys.executable, "-m", "pti.check", *arguments], capture_output=True)
    named: dict[str, set[str]] = {}
    with open(output_dir / "check.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["fault"] in PAIR_FAULTS:
                name = Path(row["file"]).stem if row["file"].endswith(".tif") else ""
                named.setdefault(name, set()).add(row["fault"])
    return named


def _inject_faults(folder: Path, seed: int) -> dict[str, tuple[str, ...]]:
    """Change some pairs of a set; return kind of fault -> names of its pairs, one of which must be named."""
    import numpy as np

    from pti.data.tif import read, write

    generator = np.random.default_rng(seed)
    by_patient: dict[str, list[str]] = {}
    for name in sorted(path.stem for path in (folder / "dente").iterdir()):
        by_patient.setdefault(name.split("_")[-1], []).append(name)
    groups = [by_patient[patient] for patient in generator.permutation(sorted(by_patient))]

    def change(role: str, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
        path = folder / role / f"{name}.tif"
        write(path, how(read(path).pixels).astype(np.float32), read(path).pixel_mm)

    def swap(one: Path, other: Path) -> None:
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)

    def target(name: str) -> Path:
        return folder / "edente" / f"{name}.tif"

    shifted, turned, exchanged, copied = groups[0][0], groups[1][0], groups[2][0], groups[3][0]
    across, neighbours = (groups[0][-1], groups[1][-1]), tuple(groups[2][-2:])
    change("edente", shifted, lambda image: np.roll(image, SHIFT_PX, int(generator.integers(2))))
    change("edente", turned, lambda image: _rotate(image, ROTATION_DEG * generator.choice([-1, 1])))
    swap(target(across[0]), target(across[1]))
    swap(target(neighbours[0]), target(neighbours[1]))
    swap(folder / "dente" / f"{exchanged}.tif", target(exchanged))
    source = groups[-1][1]
    for role in ("dente", "edente"):
        (folder / role / f"{copied}.tif").write_bytes((folder / role / f"{source}.tif").read_bytes())
        change(role, copied, lambda image: _add_noise(image, generator))
    names = ((shifted,), (turned,), across, neighbours, (exchanged,), (copied, source))
    return dict(zip(EXPECTED, names, strict=True))


def _rotate(image: Any, degrees: float) -> Any:
    """Rotate a raw image about the centre of its tissue; nearest values, so that the background stays 0."""
    import numpy as np
    from scipy import ndimage

    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array([axis.mean() for axis in np.nonzero(image)])
    offset: Any = centre - turn @ centre
    return ndimage.affine_transform(image, turn, offset, order=0)


def _add_noise(image: Any, generator: Any) -> Any:
    """Add noise of a tenth of the tissue's interquartile range."""
    import numpy as np

    tissue = image != 0
    low, high = np.percentile(image[tissue], (25, 75))
    noisy = image + generator.normal(0, 0.1 * (high - low), image.shape)
    return np.where(tissue, noisy, 0)
