"""Suite ``data``: files, cache and loader."""

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import SuiteSettings


def data_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare reading, cache and loader on random images in uncompressed float32 files."""
    import numpy as np
    import tifffile
    import torch

    from pti.data import tif
    from pti.data.layouts import single_folder
    from pti.data.normalization import RangeNormalization
    from pti.modules.tif_data import TifDataModule

    generator = np.random.default_rng(0)
    scratch, size, paths = settings.scratch, settings.image_size, []
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    (scratch / "images").mkdir()
    for number in range(settings.images):
        paths.append(scratch / "images" / f"0_HA_2021_02_{number}.tif")
        tif.write(paths[-1], (np.hypot(2 * x, y) < 0.8) * generator.uniform(500, 3000, (size, size)), 0.15)
    options = {"fractions": (1, 0, 0), "sources": "target", "image_size": size, "num_workers": 0}
    data = TifDataModule(scratch / "images", single_folder, cache_dir=scratch / "cache", **options)
    data.prepare_data()
    data.setup("fit")
    normalization = RangeNormalization()
    normalization.fit(data.training_images())
    low, high = (float(bound) for bound in normalization.bounds[:2])

    def plain() -> None:
        for start in range(0, len(paths), data.batch_size):
            items = []
            for path in paths[start : start + data.batch_size]:
                raw = tifffile.imread(path)
                image = np.where(raw != 0, 1.8 * (raw - low) / (high - low) - 0.8, -1)
                items.append(torch.from_numpy(image.astype(np.float32))[None])
            torch.stack(items)

    def cached(normalize: bool) -> None:
        served = 0
        for batch in data.train_dataloader():
            served += len(batch["image"])
            if normalize:
                normalization.normalize(batch["image"], normalization.statistics(batch["image"]))
        assert served == len(paths)

    epoch = {
        "tifffile.imread, normalise, stack": plain,
        "cache": lambda: cached(False),
        "cache, normalise on the CPU": lambda: cached(True),
    }
    files = {
        "tifffile.imread": lambda: [tifffile.imread(path) for path in paths],
        "pti.data.tif.read": lambda: [tif.read(path) for path in paths],
        "pti.data.tif.inspect": lambda: [tif.inspect(path) for path in paths],
    }
    return [
        Comparison("one epoch", "images/s", len(paths), epoch, one_thread=True),
        Comparison("reading files", "images/s", len(paths), files, one_thread=True),
    ]
