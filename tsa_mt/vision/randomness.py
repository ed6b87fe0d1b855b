"""Random numbers that belong to an image: functions of (seed, epoch, index) and nothing else.

Augmentation must not depend on which worker or which run handles an image, so that a resumed
training equals an uninterrupted one. A generator per image would be slow; a hash of three integers
serves a whole batch at once (the finaliser of SplitMix64, Steele et al., OOPSLA 2014,
https://doi.org/10.1145/2660193.2660195).
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mix(values: np.ndarray) -> np.ndarray:
    """Scrambles 64-bit integers; a bijection."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def uniform(seed: int, epoch: int, indices: np.ndarray, count: int) -> np.ndarray:
    """Independent numbers in [0, 1) for every image.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch.
        indices: ``(images,)`` numbers of the images in the whole data set.
        count: Numbers per image.

    Returns:
        ``(images, count)`` in float64.
    """
    with np.errstate(over="ignore"):  # wrapping around is the arithmetic that is meant
        run = _mix(np.array([seed], dtype=np.int64).view(np.uint64) + GOLDEN)
        run = _mix(run + np.uint64(epoch) * GOLDEN)
        image = _mix(run + np.asarray(indices).astype(np.uint64) * GOLDEN + GOLDEN)
        steps = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
        bits = _mix(image[:, None] + steps[None, :])
    return (bits >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of ``length`` images in an epoch."""
    return np.random.default_rng([seed & (2**63 - 1), epoch]).permutation(length)
