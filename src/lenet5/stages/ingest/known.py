"""Names of the classes of published data sets whose files have numbers alone."""

KNOWN = {
    # Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017)
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": (  # pragma: allowlist secret
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
"""By the SHA-256 of the labels of train, one byte each, in the published order."""
