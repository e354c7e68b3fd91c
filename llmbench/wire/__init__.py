"""Sans-I/O decoders: the bytes of a streaming response in, events out.

A decoder knows nothing of sockets, clocks or tasks, and any split of the same bytes gives the same events.
"""
