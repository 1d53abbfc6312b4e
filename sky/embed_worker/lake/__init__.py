"""The lake's format: where everything lies, how it is written once, what its files say."""
