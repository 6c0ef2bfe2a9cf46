"""The machine's peak: float32 matrix products in NumPy's BLAS, as many threads as its environment says."""

import argparse
import time

import numpy as np

from benchmarks.contestants.program import answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--times", type=int, default=10)
    wanted = parser.parse_args()
    random = np.random.default_rng(wanted.seed)
    left, right = (random.random((wanted.size, wanted.size), dtype=np.float32) for _ in range(2))
    product = left @ right
    seconds = []
    for _ in range(wanted.times):
        started = time.perf_counter()
        np.matmul(left, right, out=product)
        seconds.append(time.perf_counter() - started)
    answer(gflop_per_s=2 * wanted.size**3 / min(seconds) / 1e9)  # the best is what the machine can do


if __name__ == "__main__":
    main()
