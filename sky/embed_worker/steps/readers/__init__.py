"""A reader a format: a source file in, its records out, each with its place. They decide what is a fault."""
