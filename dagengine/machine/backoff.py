"""How long to wait before the next attempt: exponential, capped, spread by a jitter that replays the same."""

from __future__ import annotations

from dagengine.spec.model import Backoff

__all__ = ["wait"]

_MASK = (1 << 64) - 1


def wait(policy: Backoff, ended: int, *, seed: int, unit: tuple[int, int, int]) -> int:
    """Microseconds to wait after the `ended`-th attempt (from 1) that ended with the policy's conclusion.

    `unit` is `(position, item or -1, attempt)`; with `seed` it decides the jitter, so a replay waits as long.
    """
    spread = 1.0 + policy.jitter * (2.0 * _fraction(seed, *unit) - 1.0)
    return round(_unspread(policy, ended) * spread)


def _unspread(policy: Backoff, ended: int) -> float:
    try:
        return min(policy.initial * policy.factor ** (ended - 1), policy.max)
    except OverflowError:  # the power is beyond floats: only a wait that begins with nothing is below its cap then
        return policy.max if policy.initial else 0.0


def _fraction(*parts: int) -> float:
    """A number in [0, 1) that depends on all parts: SplitMix64 (Steele, Lea, Flood 2014) over each in turn."""
    state = 0
    for part in parts:
        state = (state ^ (part & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return (state >> 11) / (1 << 53)
