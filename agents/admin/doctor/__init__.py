"""`geolane doctor`: looks at everything that can be reached, and says of each what it found and
what to do."""
