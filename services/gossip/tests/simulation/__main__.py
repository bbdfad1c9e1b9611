"""`python -m services.gossip.tests.simulation --seed 7 --ticks 60`: replay one run, or search for a failing one with --count."""

from __future__ import annotations

import argparse
import sys

from .run import DEFAULT_TICKS, simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--ticks", type=int, default=DEFAULT_TICKS)
    parser.add_argument("--count", type=int, default=1, help="so many seeds, beginning with --seed")
    parser.add_argument("--trace", action="store_true", help="print every line of the trace")
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        report = simulate(seed, arguments.ticks, is_tracing=arguments.trace)
        sys.stdout.writelines(report.trace)
        counts = " ".join(f"{name}={count}" for name, count in sorted(report.counts.items()))
        sys.stdout.write(f"seed {seed}: agreed {report.converged_after_s:.0f} s after the last fault; trace {report.fingerprint[:16]}\n")
        if arguments.count == 1:
            sys.stdout.write(f"  {counts}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
