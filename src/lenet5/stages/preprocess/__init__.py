"""Split train into train and validation, pad, reshape, rescale and one-hot encode the images."""
