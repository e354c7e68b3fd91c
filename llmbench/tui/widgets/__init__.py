"""What screens are made of. A widget draws data; it knows no state and asks nobody."""
