"""The performance claims, each as a command that anyone can run."""
