"""When and where stages run: the DVC graph, placement on work pools, remote stages, workers, deployments."""
