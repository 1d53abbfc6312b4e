"""The driver: a bench with a backend whose answers the test chooses, and the worlds of its state machine."""
