"""``python -m benchmarks [PART ...]``: measure, print tables, write ``benchmarks/results/*.json``."""

from benchmarks import command

if __name__ == "__main__":
    command.main()
