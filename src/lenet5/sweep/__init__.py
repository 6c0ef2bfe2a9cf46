"""Search parameters of the training: many trainings, scored on hold-out images, side by side."""
