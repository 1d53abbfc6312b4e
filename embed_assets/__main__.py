"""`python -m embed_assets`: the command line, where its script is not on the path."""

from embed_assets.cli import main

main()
