"""The wire: one attempt in, one reply out."""
