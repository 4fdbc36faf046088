"""The maps microservice: names of places become coordinates, coordinates names, and roads times."""
