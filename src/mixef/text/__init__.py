"""How anything is printed: numbers, names, lines, and tables in four forms."""
