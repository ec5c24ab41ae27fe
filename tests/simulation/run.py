"""`python tests/simulation/run.py`: live through many worlds, or through one of them with its whole story.

    --seeds 0:300      the worlds to live through (the end is left out)
    --seed 123         one world; with --trace its story is printed
    --jobs 2           processes that share them
    --stories          tell what the digest of each story is

Exit code 1 when one of them is not as it should be; the command that is printed then replays it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()

if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
    # Sets of texts have another order in every process otherwise, and what follows from it has, too.
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})

sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

_CHUNK = 20


class Lives(NamedTuple):
    """What became of some worlds: the digests of their stories, what was counted in them, and those that failed."""

    stories: dict[int, str]
    counts: Counter[str]
    failures: list[tuple[int, str]]


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:100")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--broken", default="", help="break one rule of the product on purpose (see broken.py)")
    parser.add_argument(
        "--ways", default="", help="break things in these ways only: cut,kill_engine,… (see adversary.py)"
    )
    parser.add_argument("--stories", action="store_true", help="tell what the digest of each story is")
    parser.add_argument("--twice", action="store_true", help="live through each world twice, and compare the stories")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first world that fails")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _one(asked)
    first, _, end = asked.seeds.partition(":")
    return _many(range(int(first), int(end)), asked)


def _one(asked: argparse.Namespace) -> int:
    _prepare(asked.broken)
    digest, story, lines, counts = _live(asked.seed, asked.ways, keep=asked.trace)
    if asked.trace:
        print("\n".join(lines))
    print(f"seed {asked.seed}: {'FAILED: ' + story if story else 'as it should be'}; story {digest}; {dict(counts)}")
    return 1 if story else 0


def _many(seeds: range, asked: argparse.Namespace) -> int:
    began, done, failed = time.monotonic(), 0, 0
    counts: Counter[str] = Counter()
    for lives in _lives(seeds, asked):
        done += len(lives.stories)
        counts.update(lives.counts)
        for seed, digest in lives.stories.items() if asked.stories else ():
            print(f"seed {seed}: story {digest}")
        for seed, story in lives.failures:
            failed += 1
            print(f"\nseed {seed} FAILED: {story}\nreplay: {_command(seed, asked)}", flush=True)
        if lives.failures and not asked.keep_going:
            break
        print(f"{done} of {len(seeds)} worlds, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    took = time.monotonic() - began
    print(f"{done} worlds in {took:.1f} s ({took / max(done, 1) * 1e3:.0f} ms each), {failed} failed: {dict(counts)}")
    return 1 if failed else 0


def _lives(seeds: range, asked: argparse.Namespace) -> Iterator[Lives]:
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if asked.jobs == 1:
        _prepare(asked.broken)
        yield from (_some(chunk, asked.ways, asked.twice) for chunk in chunks)
        return
    with futures.ProcessPoolExecutor(asked.jobs, initializer=_prepare, initargs=(asked.broken,)) as pool:
        under_way = [pool.submit(_some, chunk, asked.ways, asked.twice) for chunk in chunks]
        try:
            yield from (lives.result() for lives in futures.as_completed(under_way))
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare(broken: str) -> None:
    from simulation import boundary

    boundary.install()
    if broken:
        from simulation import broken as rules

        rules.RULES[broken]()


def _some(seeds: range, ways: str, twice: bool) -> Lives:
    lives = Lives({}, Counter(), [])
    for seed in seeds:
        digest, story, _, counts = _live(seed, ways)
        lives.stories[seed] = digest
        if not story and twice and (again := _live(seed, ways)[0]) != digest:
            story = f"its story is {digest} the first time, and {again} the second"
        if story:
            lives.failures.append((seed, story))
        lives.counts.update(counts)
    return lives


def _live(seed: int, ways: str, *, keep: bool = False) -> tuple[str, str, list[str], Counter[str]]:
    """Live through one world: the digest of its story, what was wrong with it, the story itself, what was counted."""
    from simulation.oracle import Violation
    from simulation.world import World

    world = World(seed, keep=keep, ways=[way for way in ways.split(",") if way])
    story = ""
    try:
        world.run()
    except Violation as violation:
        story = str(violation)
    except Exception:
        story = traceback.format_exc()
    return world.digest, story, world.lines, world.counts


def _command(seed: int, asked: argparse.Namespace) -> str:
    options = {"broken": asked.broken, "ways": asked.ways}
    given = "".join(f" --{name} {value}" for name, value in options.items() if value)
    return f".venv/bin/python tests/simulation/run.py --seed {seed} --trace{given}"


if __name__ == "__main__":
    sys.exit(main())
