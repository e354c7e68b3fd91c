"""The actors: tasks with a mailbox, which share no state and talk in frozen messages."""
