"""The page for people: draw, and see what the model makes of it; and the description of all routes."""
