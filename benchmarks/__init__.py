"""The measurements behind the documents' figures: `make bench`, or ``python -m benchmarks [PART ...]``.

A part (``command.PARTS``) is a module with ``run(bench)``: it runs the programs of ``contestants`` in turns
(A B C A B C), each in a process of its own, and returns lines (`results.Line`) and verdicts
(`results.Verdict`). Each part is also a command: ``python -m benchmarks.rate``. A result is a JSON file
in ``results``, with every repetition and the CPU time that other processes used meanwhile. Results in
``results/findings`` are of parts that are no longer here; each names its commit.
``python -m benchmarks.readme`` writes the figures into the documents and draws the picture.

Peers (``peers.txt``) live in an environment of their own; the product's code is never changed for them.
``benchmarks/gpu`` compares the product with PyTorch on one GPU.
"""
