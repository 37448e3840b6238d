"""Quality against time, every setting beside the published loop, in one picture: ``make bench-frontier``."""
