"""Where the README's figures come from: `make bench`, or ``python -m benchmarks PART ...``.

A part (``__main__.PARTS``) is a module with ``run(bench)``. It lets contestants take turns, A B C A B C, each
a process of its own out of ``contestants``, and gives lines (`results.Line`: every value, and the lines that
its ratios are to) and verdicts. What comes of it lies in ``results``: a JSON file a part, with every
repetition and the CPU that others used meanwhile. ``python -m benchmarks.readme`` puts the headlines into the
README.

Peers (``peers.txt``) live in an environment of their own; the product's code is never changed for them.
"""
