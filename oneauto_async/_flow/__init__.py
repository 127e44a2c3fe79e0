"""What happens between a question and its answer: rate, retry, and flights shared by everyone who waits."""
