"""The demo: real reviews through the whole pipeline on this machine."""
