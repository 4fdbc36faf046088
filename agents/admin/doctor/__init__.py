"""`geolane doctor`: examines everything that it can reach. For each check it says what it found and
what to do."""
