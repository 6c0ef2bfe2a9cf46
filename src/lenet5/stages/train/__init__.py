"""Train LeNet-5 and save it as a model that takes raw pixels."""
