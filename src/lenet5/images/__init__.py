"""Operations on arrays of images, in NumPy and SciPy alone."""
