"""What a pipeline will take, before a dollar is spent: rows, tokens, hours, prices, and how sure each of them is."""
