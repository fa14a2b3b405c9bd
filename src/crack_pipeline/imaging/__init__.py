"""Numpy in, numpy out: decoding, hashing, tiling, crack simulation."""
