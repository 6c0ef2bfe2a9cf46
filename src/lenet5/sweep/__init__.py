"""Search parameters of the training: run many trainings side by side and score them on validation images."""
