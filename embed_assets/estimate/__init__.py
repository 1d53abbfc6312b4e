"""What embedding will cost, what it has cost, and the budget."""
