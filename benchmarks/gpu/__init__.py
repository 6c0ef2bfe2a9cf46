"""The product on JAX and the same recipe in PyTorch, in turns on one GPU: ``bash benchmarks/gpu/run.sh``.

It runs where neither TensorFlow nor MLflow is installed, and within a time budget. ``compare`` starts one
process for each side and writes ``gpu.json``; ``product`` and ``torch_peer`` are these processes; ``task`` is
what they share.
"""
