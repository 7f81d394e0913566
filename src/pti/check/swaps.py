"""Do the two images of a pair belong to each other? Swapped partners, and dente exchanged with edente."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from pti.check.pair_alignment import MAP, correlate, edge_unit, spectrum

COARSE = 32  # cells a side of the maps on which all pairs are compared with all
ROWS = 512  # pairs compared with all others at once: bounds the memory
CANDIDATES = 3  # for each pair and each way of looking
CLOSE = 0.05  # least coarse gain of what is looked at closely; the coarse maps are off by less
REACH = 3  # cells by which partners may be displaced when they are looked at closely
GAIN_FLOOR = 0.007  # healthy sets with shifts of 2 px, turns of 1 degree and 10 % noise reach 0.005 at most
GAIN_CERTAIN = 0.03  # six times what healthy sets reach
SEPARATION = (
    0.2  # spread of the pairs' scores, 1 being the usual one, that tells the two folders apart beyond doubt
)
EXCHANGED = -0.5  # score, 1 being the usual one: more than seven spreads away from it
FOLDS = 5
STRANGE = 6.0  # robust standard deviations below the usual likeness that make a pair one of strangers
LONGEST = 100  # places of a chain among which swaps of two are looked for
MOST_OF_IT = 0.7  # part of a chain's gain that swaps of two must give to be the explanation
LOSS = 3.0  # loss of one direction, in units of the mean gain of both, that noise can make
GAIN_ALONE = 0.03  # by which another target must fit a stranger better


@dataclass(frozen=True)
class Swap:
    """Pairs whose targets stand in the wrong places.

    Attributes:
        places: the condition of each fits the target of the next, that of the last the target of the first;
            with ``closed`` false there are two, and only the first one's condition is said to fit the
            second one's target.
        gain: mean rise of the correlation of edges when the targets are put right.
        closed: whether the targets only changed places among these pairs.
        certain: whether the gain is beyond doubt.
    """

    places: tuple[int, ...]
    gain: float
    closed: bool
    certain: bool


def find_swaps(conditions: np.ndarray, targets: np.ndarray) -> list[Swap]:
    """Find pairs whose targets were exchanged: two by two, or along a chain (a patient's slices off by one).

    The assignment of targets to conditions with the largest sum of correlations is searched; wherever it
    differs from the given one it forms closed chains, which are judged as a whole. The likeness of
    neighbouring slices and the luck of single pairs cancel out in that sum, which a comparison of single
    pairs would not. What is left are pairs that fit each other far less than usual and another target
    better.

    Args:
        conditions, targets: (N, MAP, MAP) uint8 structure maps of complete pairs.

    Returns:
        The swaps, largest gain first.
    """
    if len(conditions) < 2:
        return []
    close = _Close(conditions, targets)
    gains = {
        (first, second): close.gain(first, second)
        for first, second in _candidates(_coarse(conditions), _coarse(targets))
    }
    found = [swap for chain in _chains(gains, len(conditions)) for swap in _explain(chain, close)]
    explained = {place for swap in found for place in swap.places}
    own = np.array([close.likeness(place, place) for place in range(len(conditions))])
    usual = np.median(own)
    least = usual - STRANGE * 1.4826 * np.median(np.abs(own - usual))
    for (first, second), gain in sorted(gains.items(), key=lambda item: -item[1]):
        if gain > GAIN_ALONE and own[first] < least and first not in explained:
            explained.add(first)
            found.append(Swap((first, second), gain, False, False))
    return sorted(found, key=lambda swap: -swap.gain)


def _explain(chain: tuple[int, ...], close: "_Close") -> list[Swap]:
    """The swaps behind a closed chain of the best assignment.

    Two pairs that exchanged their targets draw their neighbours in, whose targets fit almost as well: where
        swaps of
    two give most of the gain, they are the explanation. A chain of its own must gain at most of its steps,
    since one foreign image can make one for itself.
    """
    steps = [close.gain(*step) for step in zip(chain, chain[1:] + chain[:1], strict=True)]
    swaps: list[Swap] = []
    both_ways = [
        (pair, (close.gain(*pair), close.gain(*pair[::-1]))) for pair in combinations(chain[:LONGEST], 2)
    ]
    for pair, gains in sorted(both_ways, key=lambda item: -sum(item[1])):
        gain = sum(gains) / 2
        # One foreign image gains much in one direction and loses as much in the other: that is no exchange.
        balanced = min(gains) > -LOSS * gain
        if (
            gain > GAIN_FLOOR
            and balanced
            and not {place for swap in swaps for place in swap.places} & set(pair)
        ):
            swaps.append(Swap(pair, gain, True, gain > GAIN_CERTAIN))
    gain = float(np.mean(steps))
    by_twos = sum(2 * swap.gain for swap in swaps)
    if min(gain, float(np.median(steps))) <= GAIN_FLOOR or by_twos > MOST_OF_IT * sum(steps):
        return swaps
    return [Swap(chain, gain, True, gain > GAIN_CERTAIN)]


def _chains(gains: dict[tuple[int, int], float], total: int) -> list[tuple[int, ...]]:
    """The closed chains of the best assignment."""
    edges = {**{(place, place): 0.0 for place in range(total)}, **gains}
    rows, columns = (list(axis) for axis in zip(*edges, strict=True))
    weights = [gain + 2 for gain in edges.values()]  # correlations differ by less than 2: all positive
    graph = csr_matrix((weights, (rows, columns)), shape=(total, total))
    following = min_weight_full_bipartite_matching(graph, maximize=True)[1]
    chains, seen = [], np.arange(total) == following
    for start in np.flatnonzero(~seen):
        chain = []
        place = int(start)
        while not seen[place]:
            seen[place] = True
            chain.append(place)
            place = int(following[place])
        if chain:
            chains.append(tuple(chain))
    return chains


class _Close:
    """Correlations of pairs at the full size of the maps, at the best displacement up to REACH cells."""

    def __init__(self, conditions: np.ndarray, targets: np.ndarray) -> None:
        self.conditions, self.targets = conditions, targets
        self.known: dict[tuple[int, int], float] = {}

    def gain(self, first: int, second: int) -> float:
        """How much better the condition of ``first`` fits the target of ``second`` than its own."""
        return self.likeness(first, second) - self.likeness(first, first)

    def likeness(self, first: int, second: int) -> float:
        key = (first, second)
        if key not in self.known:
            one = spectrum(edge_unit(self.conditions[first].astype(np.float32)))
            two = spectrum(edge_unit(self.targets[second].astype(np.float32)))
            self.known[key] = float(correlate(one, two, REACH).max())
        return self.known[key]


def _coarse(maps: np.ndarray) -> np.ndarray:
    """(N, COARSE²) float32, each of unit length."""
    block = MAP // COARSE
    small = [
        edge_unit(one.reshape(COARSE, block, COARSE, block).mean((1, 3)).astype(np.float32)) for one in maps
    ]
    return np.stack(small).reshape(len(maps), -1)


def _candidates(conditions: np.ndarray, targets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of places that an exchange of targets might improve."""
    own = np.sum(conditions * targets, 1)
    for start in range(0, len(own), ROWS):
        rows = slice(start, start + ROWS)
        here = conditions[rows] @ targets.T - own[rows, None]
        both = (here + targets[rows] @ conditions.T - own[None]) / 2
        for gain in (here, both):
            gain[np.arange(len(gain)), start + np.arange(len(gain))] = -np.inf
            best = np.argpartition(-gain, min(CANDIDATES, gain.shape[1] - 1), 1)[:, :CANDIDATES]
            for row, column in zip(*np.nonzero(np.take_along_axis(gain, best, 1) > -CLOSE), strict=True):
                yield start + int(row), int(best[row, column])


def find_exchanged(differences: np.ndarray, patients: Sequence[str]) -> list[int] | None:
    """Find pairs whose condition and target stand in each other's folder.

    What distinguishes the two folders is learnt from the set itself: the direction in which condition and
        target
    differ most surely (Fisher's linear discriminant of the paired differences, regularised). Each patient
    is judged by what was learnt from others. An exchanged pair lies on the other side of 0.

    Args:
        differences: (N, K) features of the condition minus those of the target.
        patients: the N pairs' patients.

    Returns:
        The places of the exchanged pairs; None when there is too little to learn from, or when the two
        folders are so alike that the judgement would be a guess.
    """
    codes = np.unique(np.asarray(patients), return_inverse=True)[1]
    if len(differences) < 4 * FOLDS or codes.max() + 1 < FOLDS:
        return None
    scores = np.zeros(len(differences))
    for fold in range(FOLDS):
        judged = codes % FOLDS == fold
        direction, usual = _discriminant(differences[~judged])
        if usual <= 0:
            return None
        scores[judged] = differences[judged] @ direction / usual
    # From the lower tail, where a guess would go wrong; the tenth percentile bears one exchanged pair in ten.
    scatter = (np.median(scores) - np.percentile(scores, 10)) / 1.28
    return [int(place) for place in np.flatnonzero(scores < EXCHANGED)] if scatter < SEPARATION else None


def _discriminant(differences: np.ndarray) -> tuple[np.ndarray, float]:
    """(K,) direction, and the usual score along it."""
    middle = np.median(differences, 0)
    spread = 1.4826 * np.median(np.abs(differences - middle), 0)
    spread = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12))
    # Differences far outside are clipped: they are what is looked for, and must not shape the direction.
    centred = np.clip((differences - middle) / spread, -3, 3)
    covariance = centred.T @ centred / len(differences) + np.eye(differences.shape[1])
    direction = np.linalg.solve(covariance, np.clip(middle / spread, -6, 6)) / spread
    return direction, float(np.median(differences @ direction))
