"""What each screen shows, as a pure function of the state and the time."""
