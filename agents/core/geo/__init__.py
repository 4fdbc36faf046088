"""What the maps microservice tells of places: names, and the traffic around a lane."""
