"""Search for images in the wrong place: swapped targets, and condition exchanged with target."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations

import numpy as np
from scipy import fft
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from pti.check.orientation_map import shrink_map, unit, unpack_map
from pti.check.pair_alignment import correlate, evidence, testimony
from pti.check.thresholds import THRESHOLDS, robust_std

COARSE_GRID = 32  # cells along each axis of the maps on which all pairs are compared with all others
ROWS = 512  # pairs compared with all others at once; bounds the memory
CANDIDATES = 3  # partners compared closely, for each pair and each direction
REACH = 3  # largest displacement of partners in cells when they are compared closely
FOLDS = 5  # of patients, to learn from one part what is applied to another
MAX_CHAIN = 100  # pairs of a chain among which swaps of two are searched


@dataclass(frozen=True)
class Swap:
    """Pairs whose targets are in the wrong places.

    Attributes:
        pairs: indices of the pairs. The condition of each fits the target of the next one, that of the last
            fits the target of the first. If ``closed`` is False there are two pairs, and only the first
            condition fits the second target.
        gain: mean gain of edge correlation if the targets are put right.
        closed: whether the targets were only permuted among these pairs.
    """

    pairs: tuple[int, ...]
    gain: float
    closed: bool

    @property
    def certain(self) -> bool:
        """Whether the swap is beyond doubt."""
        return self.closed and self.gain > THRESHOLDS.certain_swap_gain


def find_swaps(conditions: np.ndarray, targets: np.ndarray) -> list[Swap]:
    """Find pairs whose targets were swapped: two by two, or along a chain (slices of a patient off by one).

    The search maximises the sum of correlations over all assignments of targets to conditions. Where the best
    assignment differs from the given one, it forms closed chains, which are assessed as a whole: the
    similarity of neighbouring slices and chance agreement of single pairs cancel out in the sum, unlike in a
    comparison of single pairs. The remaining pairs are reported if their own images fit each other far less
    than usual and another target fits better.

    Args:
        conditions: (N, SMALL_GRID, SMALL_GRID, 2) int8, packed orientation maps of complete pairs.
        targets: those of their targets, of the same shape.

    Returns:
        The swaps, largest gain first.
    """
    if len(conditions) < 2:
        return []

    @lru_cache(maxsize=8)
    def spectrum(index: int) -> np.ndarray:
        return np.asarray(fft.fft2(unpack_map(conditions[index])))

    @cache
    def testify(first: int, second: int) -> np.ndarray:
        """Split the correlation of a condition and a target, at their best displacement, by blocks."""
        fixed, moving = unpack_map(conditions[first]), unpack_map(targets[second])
        window = correlate(spectrum(first), moving, REACH)
        down, right = np.unravel_index(window.argmax(), window.shape)
        return testimony(fixed, moving, (int(down) - REACH, int(right) - REACH))

    def gains(first: int, second: int) -> np.ndarray:
        """Compute by blocks how much better the condition of ``first`` fits the target of ``second``."""
        return testify(first, second) - testify(first, first)

    total = len(conditions)
    candidates = _candidates(_coarse(conditions), _coarse(targets))
    improvements = {pair: float(gains(*pair).sum()) for pair in candidates}
    swaps = [swap for chain in _chains(improvements, total) for swap in _explain_chain(chain, gains)]
    involved = {index for swap in swaps for index in swap.pairs}
    own = np.array([testify(index, index).sum() for index in range(total)])
    limit = np.median(own) - THRESHOLDS.misfit_std * robust_std(own)
    for (first, second), gain in sorted(improvements.items(), key=lambda item: -item[1]):
        convincing = gain > THRESHOLDS.misfit_gain and evidence(gains(first, second)) > THRESHOLDS.evidence
        if convincing and own[first] < limit and first not in involved:
            involved.add(first)
            swaps.append(Swap((first, second), gain, closed=False))
    return sorted(swaps, key=lambda swap: -swap.gain)


def _explain_chain(chain: tuple[int, ...], gains: Callable[[int, int], np.ndarray]) -> list[Swap]:
    """Explain a closed chain of the best assignment by swaps of two, or by the chain as a whole.

    Two pairs with swapped targets draw neighbours, whose targets fit almost as well, into their chain: if
    swaps of two reach most of the gain, they are the explanation. Otherwise the chain must gain in most of
    its steps, since a single foreign image can form a chain of a few large gains.
    """
    steps = np.stack([gains(*step) for step in zip(chain, chain[1:] + chain[:1], strict=True)])
    swaps: list[Swap] = []
    taken: set[int] = set()
    both_ways = {
        pair: np.stack((gains(*pair), gains(*pair[::-1]))) for pair in combinations(chain[:MAX_CHAIN], 2)
    }
    for (first, second), both in sorted(both_ways.items(), key=lambda item: -item[1].sum()):
        mean = float(both.sum()) / 2
        # A foreign image gains much in one direction and loses as much in the other: not a swap.
        balanced = both.sum(1).min() > -THRESHOLDS.swap_imbalance * mean
        convincing = mean > THRESHOLDS.swap_gain and evidence(both) > THRESHOLDS.swap_evidence
        if convincing and balanced and not taken & {first, second}:
            taken |= {first, second}
            swaps.append(Swap((first, second), mean, closed=True))
    explained = sum(2 * swap.gain for swap in swaps) > THRESHOLDS.swap_share_of_chain * steps.sum()
    total = steps.sum(1)
    least = min(total.mean(), np.median(total))
    enough = THRESHOLDS.swap_evidence * math.sqrt(len(chain) / 2)  # more steps add up to more by chance
    if explained or least <= THRESHOLDS.swap_gain or evidence(steps) <= enough:
        return swaps
    return [Swap(chain, float(total.mean()), closed=True)]


def _chains(gains: dict[tuple[int, int], float], total: int) -> list[tuple[int, ...]]:
    """List the closed chains of the best assignment."""
    edges = {**{(index, index): 0.0 for index in range(total)}, **gains}
    rows, columns = zip(*edges, strict=True)
    weights = [gain + 2 for gain in edges.values()]  # correlations differ by less than 2: all positive
    graph = csr_matrix((weights, (rows, columns)), shape=(total, total))
    following = min_weight_full_bipartite_matching(graph, maximize=True)[1].tolist()
    chains = []
    misplaced = {index for index in range(total) if following[index] != index}
    while misplaced:
        chain = [min(misplaced)]
        while (index := following[chain[-1]]) != chain[0]:
            chain.append(index)
        misplaced -= set(chain)
        chains.append(tuple(chain))
    return chains


def _coarse(maps: np.ndarray) -> np.ndarray:
    """Reduce packed maps to (N, 2 · COARSE_GRID²) float32, each of unit length."""
    reduced = [unit(shrink_map(unpack_map(one), COARSE_GRID)) for one in maps]
    return np.stack(reduced).reshape(len(maps), -1).view(np.float32)


def _candidates(conditions: np.ndarray, targets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices for which a swap of targets might improve the fit."""
    own = np.sum(conditions * targets, 1)
    for start in range(0, len(own), ROWS):
        rows = slice(start, start + ROWS)
        here = conditions[rows] @ targets.T - own[rows, None]
        both = (here + targets[rows] @ conditions.T - own[None]) / 2
        for gain in (here, both):
            np.fill_diagonal(gain[:, start:], -np.inf)
            best = np.argpartition(-gain, min(CANDIDATES, gain.shape[1] - 1), 1)[:, :CANDIDATES]
            promising = np.take_along_axis(gain, best, 1) > -THRESHOLDS.coarse_swap_loss
            for row, column in zip(*np.nonzero(promising), strict=True):
                yield start + int(row), int(best[row, column])


def find_exchanged(differences: np.ndarray, patients: Sequence[str]) -> list[int] | None:
    """Find pairs whose condition and target are in each other's folder.

    The difference between the two folders is learnt from the set itself: Fisher's linear discriminant of the
    paired differences, regularised, gives the direction in which condition and target differ most reliably.
    The score of each patient uses the direction learnt from other patients. The scores of exchanged pairs
    have the opposite sign.

    Args:
        differences: (N, K) features of the condition minus those of the target.
        patients: patients of the N pairs.

    Returns:
        Indices of the exchanged pairs; None if there are too few pairs to learn from, or if the two folders
        are too similar to decide.
    """
    codes = np.unique(patients, return_inverse=True)[1]
    if len(differences) < 4 * FOLDS or codes.max() + 1 < FOLDS:
        return None
    scores = np.zeros(len(differences))
    for fold in range(FOLDS):
        held_out = codes % FOLDS == fold
        direction, usual = _discriminant(differences[~held_out])
        if usual <= 0:
            return None
        scores[held_out] = differences[held_out] @ direction / usual
    # Only the lower tail matters; its tenth percentile tolerates one exchanged pair in ten.
    scatter = (np.median(scores) - np.percentile(scores, 10)) / 1.28
    if scatter >= THRESHOLDS.exchange_scatter:
        return None
    return [int(index) for index in np.flatnonzero(scores < THRESHOLDS.exchanged_score)]


def _discriminant(differences: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the discriminant direction (K,) and the median score along it."""
    centre = np.median(differences, 0)
    std = robust_std(differences)
    std = np.maximum(std, 1e-3 * max(float(std.max()), 1e-12))
    # Clip outliers: exchanged pairs must not shape the direction that is meant to reveal them.
    clipped = np.clip((differences - centre) / std, -3, 3)
    covariance = clipped.T @ clipped / len(differences) + np.eye(differences.shape[1])
    direction = np.linalg.solve(covariance, np.clip(centre / std, -6, 6)) / std
    return direction, float(np.median(differences @ direction))
