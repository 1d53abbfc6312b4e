"""One embedding job from start to commit."""
