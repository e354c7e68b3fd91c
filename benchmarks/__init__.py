"""What llmbench claims about itself, measured: `make bench`."""
