"""One module per API family: how to send a request through the official SDK. An SDK is imported only by its module."""
