"""Score the saved model on every test image, as a client would: raw pixels in."""
