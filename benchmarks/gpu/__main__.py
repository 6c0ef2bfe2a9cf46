"""``python -m benchmarks.gpu``: what ``run.sh`` starts."""

from benchmarks.gpu import compare

if __name__ == "__main__":
    compare.main()
