"""How the outside is reached: the lake and the compute backends."""
