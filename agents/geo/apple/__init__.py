"""Apple Maps Server API: the token, the budget, and the three of its requests that are used."""
