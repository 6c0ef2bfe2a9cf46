"""Score the saved model on all test images, from raw pixels, as a client does."""
