"""Reading a whole lake: is it sound, how far is it, what of it can go."""
