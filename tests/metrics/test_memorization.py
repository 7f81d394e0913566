import numpy as np
import pytest

from pti.metrics.memorization import audit, nearest

SLICES = 5


def people(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """(count · 5, 60) images: slices of one patient are alike."""
    rng = np.random.default_rng(seed)
    images = np.repeat(rng.normal(0, 1, (count, 60)), SLICES, axis=0)
    return images + 0.1 * rng.normal(0, 1, images.shape), [str(i // SLICES) for i in range(len(images))]


def test_nearest_image_and_the_nearest_of_another_patient():
    training = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    result = nearest(np.array([[0.0, 0.0], [0.0, 3.0]]), training, ["a", "a", "b"])
    assert result.index.tolist() == [0, 1]
    assert result.distance == pytest.approx([0, 2 / np.sqrt(2)])
    assert result.closeness == pytest.approx([0, 1])


def test_copies_are_flagged_with_and_without_noise():
    training, patients = people(30, 0)
    real, _ = people(12, 1)
    rng = np.random.default_rng(2)
    for noise in (0, 0.2):
        result = audit("pixels", training[:60] + noise * rng.normal(0, 1, (60, 60)), real, training, patients)
        assert result.copies
        assert result.flagged_proportion > 0.95


def test_new_patients_are_not_flagged():
    training, patients = people(30, 0)
    result = audit("pixels", people(12, 3)[0], people(12, 1)[0], training, patients)
    assert not result.copies


def test_smooth_images_of_new_patients_are_not_flagged():
    """They are nearer to all training images than a real image is, which is not copying."""
    training, patients = people(30, 0)
    result = audit("pixels", 0.3 * people(12, 3)[0], people(12, 1)[0], training, patients)
    assert np.median(result.samples.distance) < np.median(result.real.distance)
    assert not result.copies


def test_training_images_of_one_patient_are_refused():
    with pytest.raises(ValueError, match="two patients"):
        nearest(np.zeros((1, 2)), np.zeros((3, 2)), ["a"] * 3)
