"""The live page: frames per second, latency and memory."""
