"""The methods of a fitted model by theme; each is a few lines that call inference or display."""
