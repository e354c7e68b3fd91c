"""The screens, one for each digit, and what lies over them."""
