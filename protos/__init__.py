"""Wire messages: `.proto` files of our own wording, and what grpcio-tools makes of them in `gen`."""
