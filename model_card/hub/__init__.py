"""Talks to the Hub: one commit for each push, retries, and a sentence for each failure."""
