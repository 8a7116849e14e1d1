"""Networks whose weights are the unknowns: weights in, one image out."""
