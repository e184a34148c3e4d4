"""LocalStack 4.9.2 without Docker, with what until-ack's tests need on top of it."""

__version__ = "0.1.0"
